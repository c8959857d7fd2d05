/* Events, processes and topology of the stubbed driver. Included by nvml_stub.c, whose state and control file it shares.
 *
 * The control lines of this file are states like those of nvml_stub.c, but for `xid` and `clock_event`: these happen once,
 * at the first reading of a line with a serial above all before, and only for the event sets that registered by then.
 */
#include <poll.h>
#include <sys/inotify.h>
#include <unistd.h>

#define MAX_PROCESSES 512
#define MAX_EVENT_SETS 16
#define MAX_QUEUED 1024
#define MAX_PATHS 64
#define SOCKET_DEVICES 4 /* devices by processor, as on a board of eight */
#define UNSET -1
#define LINK_DOWN -2
#define LINK_TO_SWITCH -3
#define LINK_MISSING -4

struct nvmlEventSet_st {
    int is_made, waiting, inotify;
    unsigned long long registered[MAX_DEVICES]; /* event types by device */
    struct { nvmlEventData_t data; unsigned long times; } queue[MAX_QUEUED];
    int first, queued;
};

struct stub_process {
    int device;
    unsigned int pid, sm_percent, instance;
    unsigned long long bytes;
    int computes, draws, is_idle;
};

static struct nvmlEventSet_st event_sets[MAX_EVENT_SETS];
static unsigned long long last_serial, asked_since[MAX_DEVICES];
static unsigned long misuses;
static struct stub_process processes[MAX_PROCESSES];
static int n_processes;
static struct { int one, other, level; } paths[MAX_PATHS];
static int n_paths;
static int links[MAX_DEVICES][NVML_NVLINK_MAX_LINKS]; /* what a link leads to: a device's number, or a word above */

/* Return how often the library was used as a driver forbids: a set freed or the driver shut down during a wait. */
unsigned long stub_misuses(void) { return misuses; }

/* Return the time stamp that the last nvmlDeviceGetProcessUtilization for a device was called with. */
unsigned long long stub_asked_since(int device) { return asked_since[device]; }

/* --- the control file, under the lock ---------------------------------------------------------------------------- */

static void reset_happenings(void) {
    n_processes = n_paths = 0;
    for (int i = 0; i < MAX_DEVICES; i++)
        for (int link = 0; link < NVML_NVLINK_MAX_LINKS; link++) links[i][link] = LINK_TO_SWITCH;
}

static void happen(int device, unsigned long long type, unsigned long long data, unsigned long times) {
    for (int i = 0; i < MAX_EVENT_SETS; i++) {
        struct nvmlEventSet_st *set = &event_sets[i];
        int is_heard = device < 0 || set->registered[device] & type; /* a device below zero: the event names none */
        if (!set->is_made || !is_heard || set->queued == MAX_QUEUED) continue;
        int place = (set->first + set->queued++) % MAX_QUEUED;
        if (device >= 0) devices[device].number = device;
        set->queue[place].data = (nvmlEventData_t){device < 0 ? NULL : &devices[device], type, data, ~0u, ~0u};
        set->queue[place].times = times;
    }
}

static int obey_event(const char *line, unsigned long long type) {
    int device;
    unsigned long long data, serial;
    unsigned long times = 1;
    if (sscanf(line, "%*s %d %lli %llu %lu", &device, (long long *)&data, &serial, &times) < 3) return 0;
    if (device >= MAX_DEVICES || !times) return 0;
    if (serial <= last_serial) return 1;
    last_serial = serial;
    happen(device, type, type == nvmlEventTypeXidCriticalError ? data : 0, times);
    return 1;
}

static void set_answer(const char *device, const char *call, unsigned long long value) {
    for (int i = 0; i < n_rules; i++)
        if (rules[i].effect == ANSWER && rules[i].device == atoi(device) && !strcmp(rules[i].call, call)) {
            rules[i].argument = value;
            return;
        }
    add_rule(ANSWER, device, call, value);
}

/* A clock event has no data of its own: the reasons are what the device answers from then on. */
static int obey_clock_event(const char *line) {
    char device[16], mask[32];
    if (sscanf(line, "%*s %15s %31s", device, mask) != 2) return 0;
    set_answer(device, "nvmlDeviceGetCurrentClocksEventReasons", strtoull(mask, NULL, 0));
    set_answer(device, "nvmlDeviceGetCurrentClocksThrottleReasons", strtoull(mask, NULL, 0));
    return obey_event(line, nvmlEventTypeClock);
}

static int obey_process(const char *line) {
    char bytes[32], percent[32], kind[8] = "C";
    struct stub_process *process = &processes[n_processes];
    process->instance = ~0u;
    int words = sscanf(line, "%*s %d %u %31s %31s %7s %u", &process->device, &process->pid, bytes, percent, kind, &process->instance);
    if (words < 4 || n_processes == MAX_PROCESSES - 1 || process->device < 0 || process->device >= MAX_DEVICES) return 0;
    process->bytes = strcmp(bytes, "na") ? strtoull(bytes, NULL, 10) : ~0ULL;
    process->is_idle = !strcmp(percent, "idle");
    process->sm_percent = (unsigned int)strtoull(percent, NULL, 10);
    process->computes = strchr(kind, 'C') != NULL;
    process->draws = strchr(kind, 'G') != NULL;
    n_processes++;
    return process->computes || process->draws;
}

static int obey_path(const char *line) {
    if (n_paths == MAX_PATHS) return 0;
    int words = sscanf(line, "%*s %d %d %d", &paths[n_paths].one, &paths[n_paths].other, &paths[n_paths].level);
    n_paths++;
    return words == 3;
}

static int obey_nvlink(const char *line) {
    char device[16], link[16], to[16];
    if (sscanf(line, "%*s %15s %15s %15s", device, link, to) != 3) return 0;
    int end = !strcmp(to, "down") ? LINK_DOWN : !strcmp(to, "switch") ? LINK_TO_SWITCH : !strcmp(to, "missing") ? LINK_MISSING : atoi(to);
    for (int i = 0; i < MAX_DEVICES; i++)
        for (int j = 0; j < NVML_NVLINK_MAX_LINKS; j++)
            if ((!strcmp(device, "*") || atoi(device) == i) && (!strcmp(link, "*") || atoi(link) == j)) links[i][j] = end;
    return 1;
}

/* Return whether the line is one of this file's. */
static int obey_happening(const char *line) {
    char word[32] = "";
    sscanf(line, "%31s", word);
    if (!strcmp(word, "xid")) return obey_event(line, nvmlEventTypeXidCriticalError);
    if (!strcmp(word, "clock_event")) return obey_clock_event(line);
    if (!strcmp(word, "process")) return obey_process(line);
    if (!strcmp(word, "path")) return obey_path(line);
    if (!strcmp(word, "nvlink")) return obey_nvlink(line);
    return 0;
}

/* Called by nvmlShutdown: a thread in the wait would go on in a driver that is gone. */
static void judge_shutdown(void) {
    for (int i = 0; i < MAX_EVENT_SETS; i++)
        if (event_sets[i].waiting) misuses++;
}

/* --- events ------------------------------------------------------------------------------------------------------ */

/* What wakes a wait is a change of the control file's folder, so that a wait costs no wake of its own. */
static int watch_control(void) {
    const char *path = getenv("STEPWATT_NVML_STUB_CONTROL");
    char folder[4096];
    if (!path || strlen(path) >= sizeof folder) return UNSET;
    strcpy(folder, path);
    char *slash = strrchr(folder, '/');
    if (!slash) return UNSET;
    *slash = '\0';
    int inotify = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    inotify_add_watch(inotify, folder, IN_MOVED_TO | IN_CLOSE_WRITE);
    return inotify;
}

nvmlReturn_t nvmlEventSetCreate(nvmlEventSet_t *set) {
    nvmlReturn_t code = enter("nvmlEventSetCreate", NULL);
    if (code) return code;
    pthread_mutex_lock(&lock);
    int i = 0;
    while (i < MAX_EVENT_SETS && event_sets[i].is_made) i++;
    if (i < MAX_EVENT_SETS) {
        memset(&event_sets[i], 0, sizeof event_sets[i]);
        event_sets[i].is_made = 1;
        event_sets[i].inotify = watch_control();
        *set = &event_sets[i];
    }
    pthread_mutex_unlock(&lock);
    return i < MAX_EVENT_SETS ? NVML_SUCCESS : NVML_ERROR_INSUFFICIENT_RESOURCES;
}

nvmlReturn_t nvmlEventSetFree(nvmlEventSet_t set) {
    nvmlReturn_t code = enter("nvmlEventSetFree", NULL);
    pthread_mutex_lock(&lock);
    if (!set->is_made || set->waiting) misuses++;
    if ((!code || code == NVML_ERROR_UNINITIALIZED) && set->is_made) { /* an unloaded driver has none any more */
        set->is_made = 0;
        if (set->inotify >= 0) close(set->inotify);
    }
    pthread_mutex_unlock(&lock);
    return code;
}

nvmlReturn_t nvmlDeviceGetSupportedEventTypes(nvmlDevice_t device, unsigned long long *types) {
    nvmlReturn_t code = enter("nvmlDeviceGetSupportedEventTypes", device);
    unsigned long long usual = nvmlEventTypeXidCriticalError | nvmlEventTypeClock | nvmlEventTypeDoubleBitEccError;
    *types = told("nvmlDeviceGetSupportedEventTypes", device, usual);
    return code;
}

nvmlReturn_t nvmlDeviceRegisterEvents(nvmlDevice_t device, unsigned long long types, nvmlEventSet_t set) {
    nvmlReturn_t code = enter("nvmlDeviceRegisterEvents", device);
    if (code) return code;
    pthread_mutex_lock(&lock);
    set->registered[device->number] |= types;
    pthread_mutex_unlock(&lock);
    return code;
}

static int take_event(struct nvmlEventSet_st *set, nvmlEventData_t *data) {
    pthread_mutex_lock(&lock);
    read_control();
    int found = set->queued > 0;
    if (found) {
        *data = set->queue[set->first].data;
        if (!--set->queue[set->first].times) {
            set->first = (set->first + 1) % MAX_QUEUED;
            set->queued--;
        }
    }
    pthread_mutex_unlock(&lock);
    return found;
}

static void rest(struct nvmlEventSet_st *set, int milliseconds) {
    char changes[4096];
    struct pollfd change = {set->inotify, POLLIN, 0};
    if (poll(&change, 1, milliseconds) > 0)
        while (read(set->inotify, changes, sizeof changes) > 0) continue;
}

nvmlReturn_t nvmlEventSetWait_v2(nvmlEventSet_t set, nvmlEventData_t *data, unsigned int timeout_ms) {
    double deadline = now_seconds() + timeout_ms / 1000.0;
    pthread_mutex_lock(&lock);
    if (!set->is_made) misuses++;
    set->waiting++;
    pthread_mutex_unlock(&lock);
    nvmlReturn_t code = enter("nvmlEventSetWait_v2", NULL);
    int found = 0;
    while (!code && !(found = take_event(set, data))) {
        double left = deadline - now_seconds();
        if (left <= 0) break;
        rest(set, (int)ceil(left * 1000));
    }
    pthread_mutex_lock(&lock);
    set->waiting--;
    pthread_mutex_unlock(&lock);
    return code ? code : found ? NVML_SUCCESS : NVML_ERROR_TIMEOUT;
}

/* --- processes --------------------------------------------------------------------------------------------------- */

static nvmlReturn_t running(const char *call, nvmlDevice_t device, int draws, unsigned int *n, nvmlProcessInfo_t *infos) {
    nvmlReturn_t code = enter(call, device);
    int stale = code == NVML_ERROR_GPU_IS_LOST && lost[device->number]; /* a lost device goes on with an empty list */
    unsigned int room = *n, found = 0;
    pthread_mutex_lock(&lock);
    for (int i = 0; !stale && !code && i < n_processes; i++) {
        const struct stub_process *process = &processes[i];
        if (process->device != device->number || !(draws ? process->draws : process->computes)) continue;
        if (device->instance && process->instance != gpu_instance_of(device)) continue;
        if (infos && found < room) infos[found] = (nvmlProcessInfo_t){process->pid, process->bytes, process->instance, ~0u};
        found++;
    }
    pthread_mutex_unlock(&lock);
    *n = found;
    if (code) return stale ? NVML_SUCCESS : code;
    return found > room ? NVML_ERROR_INSUFFICIENT_SIZE : NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetComputeRunningProcesses_v3(nvmlDevice_t device, unsigned int *n, nvmlProcessInfo_t *infos) {
    return running("nvmlDeviceGetComputeRunningProcesses_v3", device, 0, n, infos);
}

nvmlReturn_t nvmlDeviceGetGraphicsRunningProcesses_v3(nvmlDevice_t device, unsigned int *n, nvmlProcessInfo_t *infos) {
    return running("nvmlDeviceGetGraphicsRunningProcesses_v3", device, 1, n, infos);
}

/* Idle processes have no sample; without any the size query succeeds with none, as real drivers have done. */
nvmlReturn_t nvmlDeviceGetProcessUtilization(nvmlDevice_t device, nvmlProcessUtilizationSample_t *samples, unsigned int *n,
                                             unsigned long long since) {
    nvmlReturn_t code = enter("nvmlDeviceGetProcessUtilization", device);
    if (code) return code;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    unsigned long long stamp = (unsigned long long)now.tv_sec * 1000000 + (unsigned long long)now.tv_nsec / 1000;
    unsigned int room = samples ? *n : 0, found = 0;
    stamp = told("nvmlDeviceGetProcessUtilization", device, stamp);
    pthread_mutex_lock(&lock);
    asked_since[device->number] = since;
    for (int i = 0; i < n_processes; i++) {
        const struct stub_process *process = &processes[i];
        if (process->device != device->number || process->is_idle || stamp <= since) continue;
        if (found < room) samples[found] = (nvmlProcessUtilizationSample_t){process->pid, stamp, process->sm_percent, 0, 0, 0};
        found++;
    }
    pthread_mutex_unlock(&lock);
    *n = found;
    return found > room ? NVML_ERROR_INSUFFICIENT_SIZE : NVML_SUCCESS;
}

/* --- topology ---------------------------------------------------------------------------------------------------- */

nvmlReturn_t nvmlDeviceGetTopologyCommonAncestor(nvmlDevice_t one, nvmlDevice_t other, nvmlGpuTopologyLevel_t *level) {
    nvmlReturn_t code = enter("nvmlDeviceGetTopologyCommonAncestor", one);
    int is_near = one->number / SOCKET_DEVICES == other->number / SOCKET_DEVICES;
    *level = is_near ? NVML_TOPOLOGY_NODE : NVML_TOPOLOGY_SYSTEM;
    for (int i = 0; i < n_paths; i++)
        if ((paths[i].one == one->number && paths[i].other == other->number) ||
            (paths[i].one == other->number && paths[i].other == one->number))
            *level = (nvmlGpuTopologyLevel_t)paths[i].level;
    return code;
}

static nvmlReturn_t enter_link(const char *call, nvmlDevice_t device, unsigned int link) {
    nvmlReturn_t code = enter(call, device);
    if (code) return code;
    if (link >= NVML_NVLINK_MAX_LINKS) return NVML_ERROR_INVALID_ARGUMENT;
    return links[device->number][link] == LINK_MISSING ? NVML_ERROR_NOT_SUPPORTED : judge_link(device, link);
}

nvmlReturn_t nvmlDeviceGetNvLinkState(nvmlDevice_t device, unsigned int link, nvmlEnableState_t *is_active) {
    nvmlReturn_t code = enter_link("nvmlDeviceGetNvLinkState", device, link);
    if (!code) *is_active = links[device->number][link] == LINK_DOWN ? NVML_FEATURE_DISABLED : NVML_FEATURE_ENABLED;
    return code;
}

nvmlReturn_t nvmlDeviceGetNvLinkRemoteDeviceType(nvmlDevice_t device, unsigned int link, nvmlIntNvLinkDeviceType_t *type) {
    nvmlReturn_t code = enter_link("nvmlDeviceGetNvLinkRemoteDeviceType", device, link);
    if (!code) *type = links[device->number][link] == LINK_TO_SWITCH ? NVML_NVLINK_DEVICE_TYPE_SWITCH : NVML_NVLINK_DEVICE_TYPE_GPU;
    return code;
}

nvmlReturn_t nvmlDeviceGetNvLinkRemotePciInfo_v2(nvmlDevice_t device, unsigned int link, nvmlPciInfo_t *pci) {
    nvmlReturn_t code = enter_link("nvmlDeviceGetNvLinkRemotePciInfo_v2", device, link);
    memset(pci, 0, sizeof *pci);
    if (code) return code;
    int end = links[device->number][link];
    pci->bus = end >= 0 ? 0x07 + 0x11 * (unsigned)end : 0xe0; /* as nvmlDeviceGetPciInfo_v3 in nvml_stub.c */
    snprintf(pci->busId, sizeof pci->busId, NVML_DEVICE_PCI_BUS_ID_FMT, pci->domain, pci->bus, pci->device);
    return code;
}

/* Only devices whose memory is a node of its own (Grace) answer this. */
nvmlReturn_t nvmlDeviceGetNumaNodeId(nvmlDevice_t device, unsigned int *node) {
    nvmlReturn_t code = enter("nvmlDeviceGetNumaNodeId", device);
    *node = (unsigned int)told("nvmlDeviceGetNumaNodeId", device, 0);
    if (code) return code;
    return find_rule(ANSWER, device->number, "nvmlDeviceGetNumaNodeId") ? NVML_SUCCESS : NVML_ERROR_NOT_SUPPORTED;
}

nvmlReturn_t nvmlDeviceGetMemoryAffinity(nvmlDevice_t device, unsigned int size, unsigned long *nodes, nvmlAffinityScope_t scope) {
    nvmlReturn_t code = enter("nvmlDeviceGetMemoryAffinity", device);
    (void)scope;
    if (!size) return NVML_ERROR_INVALID_ARGUMENT;
    memset(nodes, 0, size * sizeof *nodes);
    nodes[0] = told("nvmlDeviceGetMemoryAffinity", device, 1UL << device->number / SOCKET_DEVICES);
    return code;
}

nvmlReturn_t nvmlSystemGetNVMLVersion(char *version, unsigned int length) {
    nvmlReturn_t code = enter("nvmlSystemGetNVMLVersion", NULL);
    return code ? code : put_text(version, length, "12.580.105.08");
}
