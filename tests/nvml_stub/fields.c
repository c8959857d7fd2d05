/* Field values, NVLink's error counters and the vGPU licence of the stubbed driver. Included by nvml_stub.c.
 *
 * Each field has a code and a type of its own; a rule names it as field:<id>. An answer is given as raw bits.
 */

static int n_links(nvmlDevice_t device) { return is_a100[device->number] ? 12 : 18; }

/* A rule for one link names it as link:<link>. */
static nvmlReturn_t judge_link(nvmlDevice_t device, unsigned int link) {
    char name[32];
    snprintf(name, sizeof name, "link:%u", link);
    pthread_mutex_lock(&lock);
    nvmlReturn_t code = judge(name, device->number);
    pthread_mutex_unlock(&lock);
    return code;
}

/* KiB over all links in one direction since boot, at 100 GB/s while busy; the other way goes a half of it. */
static unsigned long long nvlink_kib(nvmlDevice_t device, double share) {
    return (unsigned long long)(busy_seconds(device, now_seconds()) * 1e11 * share / 1024);
}

/* NVLink 5's counters, summed over the links only where the scope asks for all of them. */
static int nvlink5_value(nvmlDevice_t device, const nvmlFieldValue_t *field, unsigned long long *value) {
    if (!is_b200[device->number] || field->scopeId != ~0u) return 0;
    if (field->fieldId == NVML_FI_DEV_NVLINK_COUNT_EFFECTIVE_BER || field->fieldId == NVML_FI_DEV_NVLINK_COUNT_SYMBOL_BER)
        *value = 15 << NVML_NVLINK_BER_MANTISSA_SHIFT | 255; /* what a link without errors says */
    else *value = field->fieldId - NVML_FI_DEV_NVLINK_COUNT_XMIT_PACKETS;
    return 1;
}

/* Put a field's value and type, as an H100 has it; return 0 where it does not. */
static int field_value(nvmlDevice_t device, nvmlFieldValue_t *field, unsigned long long *value) {
    double throttled = now_seconds() - loaded_at;
    field->valueType = NVML_VALUE_TYPE_UNSIGNED_LONG_LONG;
    switch (field->fieldId) {
    case NVML_FI_DEV_ECC_SBE_VOL_TOTAL: *value = 3 + (unsigned long long)device->number; return 1;
    case NVML_FI_DEV_ECC_DBE_VOL_TOTAL: *value = 0; return 1;
    case NVML_FI_DEV_PERF_POLICY_POWER: *value = (unsigned long long)(throttled * 1e8); return 1;
    case NVML_FI_DEV_PERF_POLICY_THERMAL: *value = (unsigned long long)(throttled * 1e6); return 1;
    case NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION: *value = (unsigned long long)(joules(device) * 1000); return 1;
    case NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX: *value = nvlink_kib(device, 1); return field->scopeId == ~0u;
    case NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_RX: *value = nvlink_kib(device, 0.5); return field->scopeId == ~0u;
    }
    if (field->fieldId >= NVML_FI_DEV_NVLINK_COUNT_XMIT_PACKETS && field->fieldId <= NVML_FI_DEV_NVLINK_COUNT_SYMBOL_BER)
        return nvlink5_value(device, field, value);
    field->valueType = NVML_VALUE_TYPE_UNSIGNED_INT;
    switch (field->fieldId) {
    case NVML_FI_DEV_MEMORY_TEMP: *value = (unsigned long long)(40 + 45 * busy(device)); return 1;
    case NVML_FI_DEV_PCIE_REPLAY_COUNTER: *value = (unsigned long long)device->number; return 1;
    case NVML_FI_DEV_REMAPPED_COR: *value = 2; return 1;
    case NVML_FI_DEV_REMAPPED_UNC: *value = 1; return 1;
    case NVML_FI_DEV_REMAPPED_PENDING: *value = 0; return 1;
    case NVML_FI_DEV_REMAPPED_FAILURE: *value = 0; return 1;
    case NVML_FI_DEV_POWER_AVERAGE: *value = (unsigned long long)(watts(device) * 1000); return 1;
    case NVML_FI_DEV_POWER_INSTANT: *value = (unsigned long long)(watts(device) * 1000); return !is_a100[device->number];
    case NVML_FI_DEV_GET_GPU_RECOVERY_ACTION: *value = 0; return !is_a100[device->number];
    }
    return 0;
}

static void fill_field(nvmlDevice_t device, nvmlFieldValue_t *field) {
    unsigned long long value = 0;
    field->nvmlReturn = field->fieldId < NVML_FI_MAX ? NVML_ERROR_NOT_SUPPORTED : NVML_ERROR_INVALID_ARGUMENT;
    if (field->fieldId >= NVML_FI_MAX) return;
    pthread_mutex_lock(&lock);
    field_calls[field->fieldId][device->number]++;
    pthread_mutex_unlock(&lock);
    if (!field_value(device, field, &value)) return;
    field->value.ullVal = value;
    field->nvmlReturn = NVML_SUCCESS;
    if (!n_rules && !lost[device->number]) return;
    char name[32];
    snprintf(name, sizeof name, "field:%u", field->fieldId);
    field->value.ullVal = told(name, device, value);
    pthread_mutex_lock(&lock);
    const struct rule *type = find_rule(TYPE, device->number, name);
    if (type) field->valueType = (nvmlValueType_t)type->argument;
    if (find_rule(NOT_A_NUMBER, device->number, name)) {
        field->valueType = NVML_VALUE_TYPE_DOUBLE;
        field->value.dVal = NAN;
    }
    field->nvmlReturn = judge(name, device->number);
    pthread_mutex_unlock(&lock);
}

nvmlReturn_t nvmlDeviceGetFieldValues(nvmlDevice_t device, int n, nvmlFieldValue_t *values) {
    nvmlReturn_t code = enter("nvmlDeviceGetFieldValues", device);
    for (int i = 0; !code && i < n; i++) fill_field(device, &values[i]);
    return code;
}

/* Each link has counted as many errors as its number, and one more of each kind that comes later in the list. */
nvmlReturn_t nvmlDeviceGetNvLinkErrorCounter(nvmlDevice_t device, unsigned int link, nvmlNvLinkErrorCounter_t counter,
                                             unsigned long long *value) {
    nvmlReturn_t code = enter("nvmlDeviceGetNvLinkErrorCounter", device);
    if (!code && link >= (unsigned)n_links(device)) return NVML_ERROR_INVALID_ARGUMENT;
    if (!code && is_b200[device->number]) return NVML_ERROR_NOT_SUPPORTED;
    *value = told("nvmlDeviceGetNvLinkErrorCounter", device, link + (unsigned)counter);
    return code ? code : judge_link(device, link);
}

/* A board of its own needs no licence; an answer of the control file makes it a guest's, with two features, and is the state of one. */
nvmlReturn_t nvmlDeviceGetGridLicensableFeatures_v4(nvmlDevice_t device, nvmlGridLicensableFeatures_t *features) {
    nvmlReturn_t code = enter("nvmlDeviceGetGridLicensableFeatures_v4", device);
    memset(features, 0, sizeof *features);
    if (code || !find_rule(ANSWER, device->number, "nvmlDeviceGetGridLicensableFeatures_v4")) return code;
    features->isGridLicenseSupported = 1;
    features->licensableFeaturesCount = 2;
    features->gridLicensableFeatures[0].featureCode = NVML_GRID_LICENSE_FEATURE_CODE_NVIDIA_RTX;
    features->gridLicensableFeatures[1].featureCode = NVML_GRID_LICENSE_FEATURE_CODE_COMPUTE;
    features->gridLicensableFeatures[1].featureState = (unsigned int)told("nvmlDeviceGetGridLicensableFeatures_v4", device, 0);
    return NVML_SUCCESS;
}
