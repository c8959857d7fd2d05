/* A driver library for tests: libnvidia-ml.so.1 with made-up H100s, built from the public header. See README.md.
 *
 * A device is known by its number (0…7), which is part of its UUID; its index is its place in the present order.
 * Values are functions of CLOCK_BOOTTIME, so that processes agree and energy is exactly the integral of power.
 */
#define _GNU_SOURCE
#include <math.h>
#include <nvml.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#define MAX_DEVICES 16
#define MAX_RULES 256
#define MAX_CALLS 128
#define EVERY_DEVICE -1
#define PERIOD_SECONDS 60.0
#define IDLE_WATTS 100.0
#define SPAN_WATTS 560.0
#define GIB 1073741824ULL

enum effect { FAIL, SLOW, HANG, SENTINEL, NOT_A_NUMBER, ANSWER, TYPE };

struct rule {
    enum effect effect;
    int device;
    char call[64];
    unsigned long long argument; /* FAIL: return code; SLOW: milliseconds; ANSWER: raw value; TYPE: value type of a field */
};

/* A board, or with `instance` from 1 a MIG instance of the board with that number. */
struct nvmlDevice_st {
    int number, instance;
};

static struct nvmlDevice_st devices[MAX_DEVICES];
static struct rule rules[MAX_RULES];
static int n_rules, n_devices, order[MAX_DEVICES], n_listed, lost[MAX_DEVICES], is_a100[MAX_DEVICES], is_b200[MAX_DEVICES], init_code;
static int is_open, is_unloaded;
static double loaded_at; /* the energy counts from then; 0: from boot */
static struct timespec control_mtime;
static ino_t control_inode;
static struct { char name[64]; unsigned long by_device[MAX_DEVICES], all; } calls[MAX_CALLS];
static int n_calls;
static unsigned long field_calls[NVML_FI_MAX][MAX_DEVICES];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* happenings.c, at the end of this file: its own control lines, and what it must hear of. */
static void reset_happenings(void);
static int obey_happening(const char *line);
static void judge_shutdown(void);

/* mig.c, before it. */
static void reset_mig(void);
static int obey_mig(const char *device, const char *profiles);
static nvmlReturn_t judge_mig(const char *call, nvmlDevice_t handle);

static double now_seconds(void);

/* --- the control file -------------------------------------------------------------------------------------------- */

static void reset_state(void) {
    const char *count = getenv("STEPWATT_NVML_STUB_DEVICES");
    n_devices = count && *count ? atoi(count) : 8;
    n_rules = 0;
    init_code = NVML_SUCCESS;
    is_unloaded = 0;
    memset(lost, 0, sizeof lost);
    memset(is_a100, 0, sizeof is_a100);
    memset(is_b200, 0, sizeof is_b200);
    reset_mig();
    reset_happenings();
}

static void list_devices(int reversed, const int *removed) {
    n_listed = 0;
    for (int i = 0; i < n_devices; i++) {
        int number = reversed ? n_devices - 1 - i : i;
        if (!removed[number]) order[n_listed++] = number;
    }
}

static void add_rule(enum effect effect, const char *device, const char *call, unsigned long long argument) {
    if (n_rules == MAX_RULES) {
        fprintf(stderr, "nvml_stub: more than %d rules\n", MAX_RULES);
        abort();
    }
    struct rule *rule = &rules[n_rules++];
    rule->effect = effect;
    rule->device = strcmp(device, "*") ? atoi(device) : EVERY_DEVICE;
    rule->argument = argument;
    snprintf(rule->call, sizeof rule->call, "%s", call);
}

static int code_of(const char *word) {
    if (!strcmp(word, "unsupported")) return NVML_ERROR_NOT_SUPPORTED;
    if (!strcmp(word, "no_permission")) return NVML_ERROR_NO_PERMISSION;
    if (!strcmp(word, "timeout")) return NVML_ERROR_TIMEOUT;
    return NVML_SUCCESS;
}

static void obey(const char *line, int *reversed, int *removed) {
    char word[32] = "", a[64] = "", b[64] = "", c[64] = "";
    int words = sscanf(line, "%31s %63s %63s %63s", word, a, b, c);
    int number = atoi(a);
    if (words < 1 || word[0] == '#' || obey_happening(line)) return;
    if (number < 0 || number >= MAX_DEVICES) number = 0;
    if (!strcmp(word, "devices") && words == 2) n_devices = number;
    else if (!strcmp(word, "reversed")) *reversed = 1;
    else if (!strcmp(word, "removed") && words == 2) removed[number] = 1;
    else if (!strcmp(word, "lost") && words == 2) lost[number] = 1;
    else if (!strcmp(word, "init") && words == 2) init_code = atoi(a);
    else if (!strcmp(word, "a100") && words == 2) is_a100[number] = 1;
    else if (!strcmp(word, "b200") && words == 2) is_b200[number] = 1;
    else if (!strcmp(word, "mig") && words == 3 && obey_mig(a, b)) return;
    else if (!strcmp(word, "unloaded")) is_unloaded = 1;
    else if (!strcmp(word, "reset_required") && words == 2) add_rule(FAIL, a, "*", NVML_ERROR_RESET_REQUIRED);
    else if (!strcmp(word, "fail") && words == 4) add_rule(FAIL, a, b, strtoull(c, NULL, 10));
    else if (!strcmp(word, "slow") && words == 4) add_rule(SLOW, a, b, strtoull(c, NULL, 10));
    else if (!strcmp(word, "hang") && words == 3) add_rule(HANG, a, b, 0);
    else if (!strcmp(word, "sentinel") && words == 3) add_rule(SENTINEL, a, b, 0);
    else if (!strcmp(word, "nan") && words == 3) add_rule(NOT_A_NUMBER, a, b, 0);
    else if (!strcmp(word, "answer") && words == 4) add_rule(ANSWER, a, b, strtoull(c, NULL, 10));
    else if (!strcmp(word, "type") && words == 4) add_rule(TYPE, a, b, strtoull(c, NULL, 10));
    else if (code_of(word) && words == 3) add_rule(FAIL, a, b, code_of(word));
    else {
        /* A fault that was written wrongly and does nothing would let a test pass for the wrong reason. */
        fprintf(stderr, "nvml_stub: control line not understood: %s\n", line);
        abort();
    }
}

static void read_control(void) {
    const char *path = getenv("STEPWATT_NVML_STUB_CONTROL");
    struct stat status;
    int exists = path && *path && stat(path, &status) == 0;
    if (exists && status.st_ino == control_inode && status.st_mtim.tv_sec == control_mtime.tv_sec &&
        status.st_mtim.tv_nsec == control_mtime.tv_nsec)
        return;
    if (!exists && !control_inode && n_devices) return;
    int reversed = 0, removed[MAX_DEVICES] = {0};
    reset_state();
    control_inode = exists ? status.st_ino : 0;
    if (exists) {
        control_mtime = status.st_mtim;
        FILE *file = fopen(path, "r");
        char line[256];
        while (file && fgets(line, sizeof line, file)) obey(line, &reversed, removed);
        if (file) fclose(file);
    }
    list_devices(reversed, removed);
    if (is_unloaded) {
        is_open = 0;
        loaded_at = now_seconds();
    }
}

/* --- what every call begins with --------------------------------------------------------------------------------- */

/* Calls are named by literals: a name that was found before is known by its address. */
static int slot_of(const char *call) {
    static struct { const char *call; int slot; } known[1024];
    size_t place = ((uintptr_t)call * 31) % 1024;
    if (known[place].call == call) return known[place].slot;
    int i = 0;
    while (i < n_calls && strcmp(calls[i].name, call)) i++;
    if (i == MAX_CALLS) abort();
    if (i == n_calls) snprintf(calls[n_calls++].name, sizeof calls[0].name, "%s", call);
    known[place].call = call;
    known[place].slot = i;
    return i;
}

static void count(const char *call, int device) {
    int i = slot_of(call);
    calls[i].all++;
    if (device >= 0) calls[i].by_device[device]++;
}

/* Return how often a call was made for a device (-1: for any), since the library was loaded. */
unsigned long stub_call_count(const char *call, int device) {
    pthread_mutex_lock(&lock);
    unsigned long found = 0;
    unsigned int field;
    if (sscanf(call, "field:%u", &field) == 1 && field < NVML_FI_MAX)
        for (int i = 0; i < MAX_DEVICES; i++) found += device < 0 || device == i ? field_calls[field][i] : 0;
    for (int i = 0; i < n_calls; i++)
        if (!strcmp(calls[i].name, call)) found = device < 0 ? calls[i].all : calls[i].by_device[device];
    pthread_mutex_unlock(&lock);
    return found;
}

static void sleep_ms(unsigned long long milliseconds) {
    struct timespec rest = {(time_t)(milliseconds / 1000), (long)(milliseconds % 1000) * 1000000L};
    nanosleep(&rest, NULL);
}

static const struct rule *find_rule(enum effect effect, int device, const char *call) {
    for (int i = 0; i < n_rules; i++)
        if (rules[i].effect == effect && (rules[i].device == EVERY_DEVICE || rules[i].device == device) &&
            (!strcmp(rules[i].call, "*") || !strcmp(rules[i].call, call)))
            return &rules[i];
    return NULL;
}

/* A lost device goes on answering these with stale values, as real ones do. */
static int answers_when_lost(const char *call) {
    static const char *stale[] = {"nvmlDeviceGetHandleByIndex_v2", "nvmlDeviceGetHandleByUUID", "nvmlDeviceGetUUID", "nvmlDeviceGetName", "nvmlDeviceGetPciInfo_v3",
        "nvmlDeviceGetTotalEnergyConsumption", "nvmlDeviceGetCurrentClocksEventReasons",
        "nvmlDeviceGetCurrentClocksThrottleReasons", "nvmlDeviceGetMaxClockInfo", "nvmlDeviceGetFieldValues",
        "field:3", "field:4"};
    for (size_t i = 0; i < sizeof stale / sizeof *stale; i++)
        if (!strcmp(stale[i], call)) return 1;
    return 0;
}

static nvmlReturn_t judge(const char *call, int device) {
    const struct rule *failure = find_rule(FAIL, device, call);
    if (device >= 0 && lost[device] && !answers_when_lost(call)) return NVML_ERROR_GPU_IS_LOST;
    if (failure && !(answers_when_lost(call) && !strcmp(failure->call, "*"))) return (nvmlReturn_t)failure->argument;
    return NVML_SUCCESS;
}

static nvmlReturn_t enter(const char *call, nvmlDevice_t handle) {
    int device = handle ? handle->number : -1;
    pthread_mutex_lock(&lock);
    read_control();
    count(call, device);
    const struct rule *slow = find_rule(SLOW, device, call);
    unsigned long long pause = slow ? slow->argument : 0;
    while (find_rule(HANG, device, call)) { /* does not return while the control file says so */
        pthread_mutex_unlock(&lock);
        sleep_ms(5);
        pthread_mutex_lock(&lock);
        read_control();
    }
    nvmlReturn_t code = is_open ? judge(call, device) : NVML_ERROR_UNINITIALIZED;
    if (!code && handle) code = judge_mig(call, handle);
    pthread_mutex_unlock(&lock);
    if (pause) sleep_ms(pause);
    return code;
}

/* Return what the control file makes of a value: itself, an answer of its choice, or all bits set. */
static unsigned long long told(const char *call, nvmlDevice_t handle, unsigned long long value) {
    pthread_mutex_lock(&lock);
    const struct rule *answer = find_rule(ANSWER, handle->number, call);
    if (answer) value = answer->argument;
    else if (find_rule(SENTINEL, handle->number, call)) value = ~0ULL;
    pthread_mutex_unlock(&lock);
    return value;
}

/* --- values that move -------------------------------------------------------------------------------------------- */

static double now_seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_BOOTTIME, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static double angle(nvmlDevice_t device, double seconds) {
    return 2 * M_PI * (seconds / PERIOD_SECONDS + device->number / 8.0);
}

static double busy(nvmlDevice_t device) { return 0.5 + 0.5 * sin(angle(device, now_seconds())); }

static double watts(nvmlDevice_t device) { return IDLE_WATTS + SPAN_WATTS * busy(device); }

/* The integral of busy() from boot until then. */
static double busy_seconds(nvmlDevice_t device, double until) {
    double waves = (cos(angle(device, 0)) - cos(angle(device, until))) * PERIOD_SECONDS / (2 * M_PI);
    return 0.5 * (until + waves);
}

/* The integral of watts() since the driver was loaded. */
static double joules(nvmlDevice_t device) {
    double now = now_seconds();
    return IDLE_WATTS * (now - loaded_at) + SPAN_WATTS * (busy_seconds(device, now) - busy_seconds(device, loaded_at));
}

static unsigned long long total_bytes(nvmlDevice_t device);

static unsigned long long used_bytes(nvmlDevice_t device) {
    return total_bytes(device) / 10 + (unsigned long long)(busy(device) * 0.7 * (double)(total_bytes(device) / GIB)) * GIB;
}

/* --- the library ------------------------------------------------------------------------------------------------- */

nvmlReturn_t nvmlInitWithFlags(unsigned int flags) {
    (void)flags;
    pthread_mutex_lock(&lock);
    read_control();
    count("nvmlInitWithFlags", -1);
    nvmlReturn_t code = is_unloaded ? NVML_ERROR_DRIVER_NOT_LOADED : (nvmlReturn_t)init_code;
    if (code == NVML_SUCCESS) is_open++;
    pthread_mutex_unlock(&lock);
    return code;
}

nvmlReturn_t nvmlInit_v2(void) { return nvmlInitWithFlags(0); }

nvmlReturn_t nvmlShutdown(void) {
    nvmlReturn_t code = enter("nvmlShutdown", NULL);
    judge_shutdown();
    if (code == NVML_SUCCESS) is_open--;
    return code;
}

const char *nvmlErrorString(nvmlReturn_t result) {
    return result == NVML_SUCCESS ? "Success" : "an error of the stub";
}

static nvmlReturn_t put_text(char *to, unsigned int length, const char *text) {
    if (strlen(text) >= length) return NVML_ERROR_INSUFFICIENT_SIZE;
    strcpy(to, text);
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlSystemGetDriverVersion(char *version, unsigned int length) {
    nvmlReturn_t code = enter("nvmlSystemGetDriverVersion", NULL);
    return code ? code : put_text(version, length, "580.105.08");
}

nvmlReturn_t nvmlSystemGetCudaDriverVersion_v2(int *version) {
    nvmlReturn_t code = enter("nvmlSystemGetCudaDriverVersion_v2", NULL);
    *version = 13000;
    return code;
}

nvmlReturn_t nvmlDeviceGetCount_v2(unsigned int *n) {
    nvmlReturn_t code = enter("nvmlDeviceGetCount_v2", NULL);
    *n = (unsigned int)n_listed;
    return code;
}

static void uuid_of(int number, char *uuid) {
    sprintf(uuid, "GPU-%08x-5747-4a54-9bb1-%012x", 0x5e9a0000u + (unsigned)number, 0x1000u + (unsigned)number);
}

static void uuid_of_instance(int number, int instance, char *uuid);
static const char *mig_suffix(nvmlDevice_t device);
static nvmlDevice_t find_instance(const char *uuid);

static nvmlReturn_t give_handle(const char *call, int number, nvmlDevice_t *device) {
    devices[number].number = number;
    *device = &devices[number];
    return enter(call, *device);
}

nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned int index, nvmlDevice_t *device) {
    if (index >= (unsigned int)n_listed) return NVML_ERROR_INVALID_ARGUMENT;
    return give_handle("nvmlDeviceGetHandleByIndex_v2", order[index], device);
}

nvmlReturn_t nvmlDeviceGetHandleByUUID(const char *uuid, nvmlDevice_t *device) {
    nvmlReturn_t code = enter("nvmlDeviceGetHandleByUUID", NULL);
    char candidate[NVML_DEVICE_UUID_BUFFER_SIZE];
    for (int i = 0; !code && i < n_listed; i++) {
        uuid_of(order[i], candidate);
        if (!strcmp(candidate, uuid)) return give_handle("nvmlDeviceGetHandleByUUID", order[i], device);
    }
    if (!code && find_instance(uuid)) {
        *device = find_instance(uuid);
        return NVML_SUCCESS;
    }
    return code ? code : NVML_ERROR_NOT_FOUND;
}

nvmlReturn_t nvmlDeviceGetUUID(nvmlDevice_t device, char *uuid, unsigned int length) {
    nvmlReturn_t code = enter("nvmlDeviceGetUUID", device);
    char text[NVML_DEVICE_UUID_BUFFER_SIZE];
    device->instance ? uuid_of_instance(device->number, device->instance, text) : uuid_of(device->number, text);
    return code ? code : put_text(uuid, length, text);
}

nvmlReturn_t nvmlDeviceGetName(nvmlDevice_t device, char *name, unsigned int length) {
    nvmlReturn_t code = enter("nvmlDeviceGetName", device);
    char text[NVML_DEVICE_NAME_V2_BUFFER_SIZE];
    const char *board = is_a100[device->number] ? "NVIDIA A100-SXM4-80GB" : is_b200[device->number] ? "NVIDIA B200" : "NVIDIA H100 80GB HBM3";
    snprintf(text, sizeof text, "%s%s", board, mig_suffix(device));
    return code ? code : put_text(name, length, text);
}

nvmlReturn_t nvmlDeviceGetPciInfo_v3(nvmlDevice_t device, nvmlPciInfo_t *pci) {
    nvmlReturn_t code = enter("nvmlDeviceGetPciInfo_v3", device);
    memset(pci, 0, sizeof *pci);
    pci->bus = 0x07 + 0x11 * (unsigned)device->number;
    pci->pciDeviceId = 0x233010de;
    snprintf(pci->busId, sizeof pci->busId, NVML_DEVICE_PCI_BUS_ID_FMT, pci->domain, pci->bus, pci->device);
    snprintf(pci->busIdLegacy, sizeof pci->busIdLegacy, NVML_DEVICE_PCI_BUS_ID_LEGACY_FMT, pci->domain, pci->bus, pci->device);
    return code;
}

/* A call with one number as its answer. */
#define GIVES(function, type, value)                                   \
    nvmlReturn_t function(nvmlDevice_t device, type *answer) {         \
        nvmlReturn_t code = enter(#function, device);                  \
        *answer = (type)told(#function, device, (unsigned long long)(value)); \
        return code;                                                   \
    }

GIVES(nvmlDeviceGetPowerUsage, unsigned int, watts(device) * 1000)
GIVES(nvmlDeviceGetEnforcedPowerLimit, unsigned int, 700000)
GIVES(nvmlDeviceGetTotalEnergyConsumption, unsigned long long, joules(device) * 1000)
GIVES(nvmlDeviceGetCurrentClocksEventReasons, unsigned long long, busy(device) > 0.9 ? nvmlClocksEventReasonSwPowerCap : 0)
GIVES(nvmlDeviceGetCurrentClocksThrottleReasons, unsigned long long, busy(device) > 0.9 ? nvmlClocksEventReasonSwPowerCap : 0)
GIVES(nvmlDeviceGetPcieReplayCounter, unsigned int, device->number)
GIVES(nvmlDeviceGetCurrPcieLinkGeneration, unsigned int, is_a100[device->number] ? 4 : 5)
GIVES(nvmlDeviceGetMaxPcieLinkGeneration, unsigned int, is_a100[device->number] ? 4 : 5)
GIVES(nvmlDeviceGetCurrPcieLinkWidth, unsigned int, 16)
GIVES(nvmlDeviceGetMaxPcieLinkWidth, unsigned int, 16)

nvmlReturn_t nvmlDeviceGetFanSpeed(nvmlDevice_t device, unsigned int *percent) {
    nvmlReturn_t code = enter("nvmlDeviceGetFanSpeed", device);
    *percent = (unsigned int)told("nvmlDeviceGetFanSpeed", device, 0);
    if (code) return code;
    /* These boards have no fan of their own: the call answers only where the control file gives it a value. */
    return find_rule(ANSWER, device->number, "nvmlDeviceGetFanSpeed") ? NVML_SUCCESS : NVML_ERROR_NOT_SUPPORTED;
}

nvmlReturn_t nvmlDeviceGetUtilizationRates(nvmlDevice_t device, nvmlUtilization_t *rates) {
    nvmlReturn_t code = enter("nvmlDeviceGetUtilizationRates", device);
    rates->gpu = (unsigned int)told("nvmlDeviceGetUtilizationRates", device, (unsigned long long)(busy(device) * 100));
    rates->memory = (unsigned int)told("nvmlDeviceGetUtilizationRates", device, (unsigned long long)(busy(device) * 60));
    return code;
}

static nvmlReturn_t codec_use(const char *call, nvmlDevice_t device, unsigned int *percent, unsigned int *period_us) {
    nvmlReturn_t code = enter(call, device);
    *percent = (unsigned int)told(call, device, 0);
    *period_us = 167000;
    return code;
}

nvmlReturn_t nvmlDeviceGetEncoderUtilization(nvmlDevice_t device, unsigned int *percent, unsigned int *period_us) {
    return codec_use("nvmlDeviceGetEncoderUtilization", device, percent, period_us);
}

nvmlReturn_t nvmlDeviceGetDecoderUtilization(nvmlDevice_t device, unsigned int *percent, unsigned int *period_us) {
    return codec_use("nvmlDeviceGetDecoderUtilization", device, percent, period_us);
}

nvmlReturn_t nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t device, nvmlMemory_v2_t *memory) {
    nvmlReturn_t code = enter("nvmlDeviceGetMemoryInfo_v2", device);
    if (memory->version != nvmlMemory_v2) return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    unsigned long long all = total_bytes(device), used = used_bytes(device);
    memory->total = told("nvmlDeviceGetMemoryInfo_v2", device, all);
    memory->reserved = told("nvmlDeviceGetMemoryInfo_v2", device, GIB / 2);
    memory->used = told("nvmlDeviceGetMemoryInfo_v2", device, used);
    memory->free = told("nvmlDeviceGetMemoryInfo_v2", device, all - GIB / 2 - used);
    return code;
}

nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t device, nvmlMemory_t *memory) {
    nvmlReturn_t code = enter("nvmlDeviceGetMemoryInfo", device);
    unsigned long long all = total_bytes(device), used = used_bytes(device) + GIB / 2; /* v1 counts the reserved */
    memory->total = told("nvmlDeviceGetMemoryInfo", device, all);
    memory->used = told("nvmlDeviceGetMemoryInfo", device, used);
    memory->free = told("nvmlDeviceGetMemoryInfo", device, all - used);
    return code;
}

nvmlReturn_t nvmlDeviceGetTemperature(nvmlDevice_t device, nvmlTemperatureSensors_t sensor, unsigned int *celsius) {
    nvmlReturn_t code = enter("nvmlDeviceGetTemperature", device);
    *celsius = (unsigned int)told("nvmlDeviceGetTemperature", device, (unsigned long long)(30 + 45 * busy(device)));
    return sensor == NVML_TEMPERATURE_GPU ? code : NVML_ERROR_INVALID_ARGUMENT;
}

static unsigned long long clock_mhz(nvmlDevice_t device, nvmlClockType_t type) {
    if (type == NVML_CLOCK_MEM) return 2619;
    return (unsigned long long)(1980 - 300 * busy(device));
}

nvmlReturn_t nvmlDeviceGetClockInfo(nvmlDevice_t device, nvmlClockType_t type, unsigned int *mhz) {
    nvmlReturn_t code = enter("nvmlDeviceGetClockInfo", device);
    *mhz = (unsigned int)told("nvmlDeviceGetClockInfo", device, clock_mhz(device, type));
    return code;
}

nvmlReturn_t nvmlDeviceGetMaxClockInfo(nvmlDevice_t device, nvmlClockType_t type, unsigned int *mhz) {
    nvmlReturn_t code = enter("nvmlDeviceGetMaxClockInfo", device);
    *mhz = (unsigned int)told("nvmlDeviceGetMaxClockInfo", device, type == NVML_CLOCK_MEM ? 2619 : 1980);
    return code;
}

#include "fields.c"
#include "gpm.c"
#include "mig.c"
#include "happenings.c"
