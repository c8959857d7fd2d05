/* GPM of the stubbed driver: what two samples make. Included by nvml_stub.c.
 *
 * A rule names a metric as gpm:<id>; an answer is a whole number in the metric's own unit (percent, MiB/s).
 */

struct nvmlGpmSample_st {
    int device, instance, is_taken;
    double seconds, busy_seconds;
};

static long gpm_samples; /* allocated and not given back */

long stub_gpm_samples(void) { return gpm_samples; }

nvmlReturn_t nvmlGpmQueryDeviceSupport(nvmlDevice_t device, nvmlGpmSupport_t *support) {
    nvmlReturn_t code = enter("nvmlGpmQueryDeviceSupport", device);
    if (support->version != NVML_GPM_SUPPORT_VERSION) return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    support->isSupportedDevice = !is_a100[device->number];
    return code;
}

nvmlReturn_t nvmlGpmSampleAlloc(nvmlGpmSample_t *sample) {
    nvmlReturn_t code = enter("nvmlGpmSampleAlloc", NULL);
    if (code) return code;
    *sample = calloc(1, sizeof **sample);
    gpm_samples++;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlGpmSampleFree(nvmlGpmSample_t sample) {
    nvmlReturn_t code = enter("nvmlGpmSampleFree", NULL);
    if (!sample) return NVML_ERROR_INVALID_ARGUMENT;
    free(sample);
    gpm_samples--;
    return code;
}

static nvmlReturn_t take_sample(const char *call, nvmlDevice_t device, int instance, nvmlGpmSample_t sample) {
    nvmlReturn_t code = enter(call, device);
    if (code) return code;
    if (is_a100[device->number]) return NVML_ERROR_NOT_SUPPORTED;
    double now = now_seconds();
    *sample = (struct nvmlGpmSample_st){device->number, instance, 1, now, busy_seconds(device, now)};
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlGpmSampleGet(nvmlDevice_t device, nvmlGpmSample_t sample) {
    return take_sample("nvmlGpmSampleGet", device, 0, sample);
}

static int has_instance(int number, int instance);

nvmlReturn_t nvmlGpmMigSampleGet(nvmlDevice_t device, unsigned int instance, nvmlGpmSample_t sample) {
    if (!has_instance(device->number, (int)instance)) return NVML_ERROR_NOT_FOUND;
    return take_sample("nvmlGpmMigSampleGet", device, (int)instance, sample);
}

static double gpm_value(unsigned int id, double busy_share) {
    switch (id) {
    case NVML_GPM_METRIC_GRAPHICS_UTIL: return 100 * busy_share;
    case NVML_GPM_METRIC_SM_UTIL: return 90 * busy_share;
    case NVML_GPM_METRIC_SM_OCCUPANCY: return 40 * busy_share;
    case NVML_GPM_METRIC_ANY_TENSOR_UTIL: return 58 * busy_share;
    case NVML_GPM_METRIC_DRAM_BW_UTIL: return 60 * busy_share;
    case NVML_GPM_METRIC_FP64_UTIL: return 0;
    case NVML_GPM_METRIC_FP32_UTIL: return 12 * busy_share;
    case NVML_GPM_METRIC_FP16_UTIL: return 6 * busy_share;
    case NVML_GPM_METRIC_PCIE_TX_PER_SEC: return 2000 * busy_share;
    case NVML_GPM_METRIC_PCIE_RX_PER_SEC: return 3000 * busy_share;
    case NVML_GPM_METRIC_NVLINK_TOTAL_TX_PER_SEC: return 95367 * busy_share;
    case NVML_GPM_METRIC_NVLINK_TOTAL_RX_PER_SEC: return 47684 * busy_share;
    }
    return NAN;
}

static void fill_gpm(const struct nvmlGpmSample_st *sample, double busy_share, nvmlGpmMetric_t *metric) {
    /* An instance has no share of the board's links. */
    metric->value = sample->instance && metric->metricId >= NVML_GPM_METRIC_PCIE_TX_PER_SEC ? NAN : gpm_value(metric->metricId, busy_share);
    metric->nvmlReturn = NVML_SUCCESS;
    if (!n_rules) return;
    char name[32];
    snprintf(name, sizeof name, "gpm:%u", metric->metricId);
    pthread_mutex_lock(&lock);
    const struct rule *answer = find_rule(ANSWER, sample->device, name);
    if (answer) metric->value = (double)answer->argument;
    else if (find_rule(SENTINEL, sample->device, name)) metric->value = (double)~0ULL;
    else if (find_rule(NOT_A_NUMBER, sample->device, name)) metric->value = NAN;
    metric->nvmlReturn = judge(name, sample->device);
    pthread_mutex_unlock(&lock);
}

nvmlReturn_t nvmlGpmMetricsGet(nvmlGpmMetricsGet_t *get) {
    const struct nvmlGpmSample_st *older = get->sample1, *newer = get->sample2;
    if (get->version != NVML_GPM_METRICS_GET_VERSION) return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    if (!older->is_taken || !newer->is_taken || older->device != newer->device) return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t code = enter("nvmlGpmMetricsGet", &devices[newer->device]);
    double seconds = newer->seconds - older->seconds;
    double share = seconds > 0 ? (newer->busy_seconds - older->busy_seconds) / seconds : NAN;
    for (unsigned int i = 0; !code && i < get->numMetrics; i++) fill_gpm(newer, fmin(1, fmax(0, share)), &get->metrics[i]);
    return code;
}
