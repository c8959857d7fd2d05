/* MIG of the stubbed driver: boards divided into instances by the control file. Included by nvml_stub.c.
 *
 * An instance's handle stays the same for its place, and answers NVML_ERROR_INVALID_ARGUMENT once the place is empty.
 */

#define MAX_INSTANCES 7

/* A place is a compute instance: alone in the GPU instance of its own number, or one of several in that of an earlier place. */
struct mig_place {
    char profile[32];
    unsigned int computes, slices, gigabytes, gpu_instance, compute_instance;
};
static struct { int is_on, n; struct mig_place places[MAX_INSTANCES]; } mig[MAX_DEVICES];
static struct nvmlDevice_st mig_devices[MAX_DEVICES][MAX_INSTANCES];
static int has_plain_names; /* as before driver 470: an instance has its board's name */

static void reset_mig(void) {
    memset(mig, 0, sizeof mig);
    has_plain_names = 0;
}

/* Take a profile's name: 3g.40gb, or 1c.3g.40gb of a part of its computing; `&` joins the GPU instance of the place before. */
static int obey_place(int number, int place, const char *word) {
    struct mig_place *made = &mig[number].places[place];
    const struct mig_place *before = word[0] == '&' && place ? made - 1 : NULL;
    if (before) word++;
    made->gpu_instance = before ? before->gpu_instance : (unsigned)place + 1;
    made->compute_instance = before ? before->compute_instance + 1 : 0;
    snprintf(made->profile, sizeof made->profile, "%s", word);
    if (sscanf(word, "%uc.%ug.%ugb", &made->computes, &made->slices, &made->gigabytes) == 3) return 1;
    int found = sscanf(word, "%ug.%ugb", &made->slices, &made->gigabytes);
    made->computes = made->slices;
    return found == 2;
}

/* `profiles` are names joined by commas; `-` is an empty place, `plain_names` is no profile. */
static int obey_mig(const char *device, const char *profiles) {
    char words[64], *rest = words;
    int number = atoi(device);
    if (number < 0 || number >= MAX_DEVICES) return 0;
    snprintf(words, sizeof words, "%s", profiles);
    memset(&mig[number], 0, sizeof mig[number]);
    mig[number].is_on = 1;
    for (char *word; (word = strtok_r(rest, ",", &rest));) {
        if (!strcmp(word, "plain_names")) {
            has_plain_names = 1;
            continue;
        }
        int place = mig[number].n++;
        if (place >= MAX_INSTANCES) return 0;
        if (!strcmp(word, "-")) continue;
        if (!obey_place(number, place, word)) return 0;
    }
    return 1;
}

static int has_instance(int number, int instance) {
    return instance >= 1 && instance <= mig[number].n && mig[number].places[instance - 1].slices;
}

static unsigned int gpu_instance_of(nvmlDevice_t device) {
    return device->instance ? mig[device->number].places[device->instance - 1].gpu_instance : 0;
}

static nvmlReturn_t judge_mig(const char *call, nvmlDevice_t handle) {
    static const char *of_instances[] = {"nvmlDeviceGetUUID", "nvmlDeviceGetName", "nvmlDeviceGetMemoryInfo_v2", "nvmlDeviceGetMemoryInfo",
        "nvmlDeviceGetGpuInstanceId", "nvmlDeviceGetComputeInstanceId", "nvmlDeviceGetAttributes_v2",
        "nvmlDeviceGetComputeRunningProcesses_v3", "nvmlDeviceGetGraphicsRunningProcesses_v3"};
    static const char *not_divided[] = {"nvmlDeviceGetUtilizationRates", "nvmlDeviceGetEncoderUtilization", "nvmlDeviceGetDecoderUtilization"};
    if (!handle->instance) {
        for (size_t i = 0; mig[handle->number].is_on && i < sizeof not_divided / sizeof *not_divided; i++)
            if (!strcmp(not_divided[i], call)) return NVML_ERROR_NOT_SUPPORTED;
        return NVML_SUCCESS;
    }
    if (!has_instance(handle->number, handle->instance)) return NVML_ERROR_INVALID_ARGUMENT;
    for (size_t i = 0; i < sizeof of_instances / sizeof *of_instances; i++)
        if (!strcmp(of_instances[i], call)) return NVML_SUCCESS;
    return NVML_ERROR_NOT_SUPPORTED;
}

static unsigned long long total_bytes(nvmlDevice_t device) {
    if (!device->instance || !has_instance(device->number, device->instance)) return 80 * GIB;
    return mig[device->number].places[device->instance - 1].gigabytes * GIB - GIB / 4;
}

static void uuid_of_instance(int number, int instance, char *uuid) {
    sprintf(uuid, "MIG-%08x-5747-4a54-9bb1-%012x", 0x5e9a0000u + (unsigned)number, 0x2000u + (unsigned)instance);
}

static const char *mig_suffix(nvmlDevice_t device) {
    static _Thread_local char suffix[48];
    if (!device->instance || has_plain_names || !has_instance(device->number, device->instance)) return "";
    snprintf(suffix, sizeof suffix, " MIG %s", mig[device->number].places[device->instance - 1].profile);
    return suffix;
}

static nvmlDevice_t instance_at(int number, int instance) {
    mig_devices[number][instance - 1] = (struct nvmlDevice_st){number, instance};
    return &mig_devices[number][instance - 1];
}

static nvmlDevice_t find_instance(const char *uuid) {
    char candidate[NVML_DEVICE_UUID_BUFFER_SIZE];
    for (int number = 0; number < n_devices; number++)
        for (int instance = 1; instance <= mig[number].n; instance++) {
            uuid_of_instance(number, instance, candidate);
            if (has_instance(number, instance) && !strcmp(candidate, uuid)) return instance_at(number, instance);
        }
    return NULL;
}

nvmlReturn_t nvmlDeviceGetMigMode(nvmlDevice_t device, unsigned int *current, unsigned int *pending) {
    nvmlReturn_t code = enter("nvmlDeviceGetMigMode", device);
    *current = *pending = mig[device->number].is_on ? NVML_DEVICE_MIG_ENABLE : NVML_DEVICE_MIG_DISABLE;
    return code;
}

nvmlReturn_t nvmlDeviceGetMaxMigDeviceCount(nvmlDevice_t device, unsigned int *n) {
    nvmlReturn_t code = enter("nvmlDeviceGetMaxMigDeviceCount", device);
    *n = mig[device->number].is_on ? MAX_INSTANCES : 0;
    return code;
}

nvmlReturn_t nvmlDeviceGetMigDeviceHandleByIndex(nvmlDevice_t device, unsigned int index, nvmlDevice_t *instance) {
    nvmlReturn_t code = enter("nvmlDeviceGetMigDeviceHandleByIndex", device);
    if (code) return code;
    if (!has_instance(device->number, (int)index + 1)) return NVML_ERROR_NOT_FOUND;
    *instance = instance_at(device->number, (int)index + 1);
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetGpuInstanceId(nvmlDevice_t device, unsigned int *id) {
    nvmlReturn_t code = enter("nvmlDeviceGetGpuInstanceId", device);
    *id = gpu_instance_of(device);
    return code || device->instance ? code : NVML_ERROR_NOT_SUPPORTED;
}

nvmlReturn_t nvmlDeviceGetComputeInstanceId(nvmlDevice_t device, unsigned int *id) {
    nvmlReturn_t code = enter("nvmlDeviceGetComputeInstanceId", device);
    *id = device->instance ? mig[device->number].places[device->instance - 1].compute_instance : 0;
    return code || device->instance ? code : NVML_ERROR_NOT_SUPPORTED;
}

nvmlReturn_t nvmlDeviceGetAttributes_v2(nvmlDevice_t device, nvmlDeviceAttributes_t *attributes) {
    nvmlReturn_t code = enter("nvmlDeviceGetAttributes_v2", device);
    memset(attributes, 0, sizeof *attributes);
    if (code || !device->instance) return code ? code : NVML_ERROR_NOT_SUPPORTED;
    attributes->gpuInstanceSliceCount = mig[device->number].places[device->instance - 1].slices;
    attributes->computeInstanceSliceCount = mig[device->number].places[device->instance - 1].computes;
    attributes->memorySizeMB = total_bytes(device) >> 20;
    return NVML_SUCCESS;
}
