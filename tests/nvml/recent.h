/* The functions of fake_nvml.c that an old driver lacks. */

/* ------------------------------------------------------------------ younger functions */

/* A versioned struct names its size and its version in its first word. */
#define CHECKED(pointer, number, result) \
    ((pointer)->version == (sizeof *(pointer) | (number) << 24) ? (result) : ARGUMENT_VERSION_MISMATCH)

struct memory_v2 { unsigned version; ulonglong total, reserved, free, used; };
struct temperature { unsigned version, sensor; int celsius; };
struct margin { unsigned version; int celsius; };
struct sram {
    unsigned version;
    ulonglong aggregate_parity, aggregate_secded, aggregate_corrected;
    ulonglong volatile_parity, volatile_secded, volatile_corrected, buckets[5];
    unsigned is_above_threshold;
};

static int put_memory_v2(device handle, struct memory_v2 *memory)
{
    struct memory plain;
    put_memory(handle, &plain);
    *memory = (struct memory_v2){memory->version, plain.total, plain.used, plain.free, 0};
    return SUCCESS;
}

static int put_sram(int gpu, struct sram *sram)
{
    ulonglong count = number_now(gpu, sram_uncorrected);
    *sram = (struct sram){.version = sram->version, .aggregate_secded = count, .volatile_secded = count,
                          .buckets = {count}, .is_above_threshold = number_now(gpu, sram_threshold)};
    return number_now(gpu, ecc_mode) > 0 ? SUCCESS : NOT_SUPPORTED;
}

static int put_margin(double margin_c, struct margin *margin)
{
    margin->celsius = margin_c;
    return SUCCESS;
}

static int put_rows(int gpu, unsigned *corrected, unsigned *uncorrected, unsigned *pending, unsigned *failed)
{
    TRY(put_pair(number_now(gpu, remap_corrected), number_now(gpu, remap_uncorrected), corrected, uncorrected));
    return put_pair(number_now(gpu, remap_pending), number_now(gpu, remap_failed), pending, failed);
}

static int put_retired_v2(int gpu, unsigned cause, unsigned *count, ulonglong *addresses, ulonglong *timestamps)
{
    TRY(put_retired(gpu, cause, count, addresses));
    if (timestamps)
        memset(timestamps, 0, *count * sizeof *timestamps);
    return SUCCESS;
}

static double energy_mj(int gpu) { return integral(gpu, power_w, 0) * 1e3; }

GPU(nvmlDeviceGetArchitecture, PUT(KEY(architecture), target), unsigned *target)
GPU(nvmlDeviceGetNumaNodeId, PUT(KEY(numa_node), target), unsigned *target)
SYSTEM(nvmlSystemGetCudaDriverVersion_v2, PUT(number_now(0, cuda), target), int *target)
GPU_OR_SLICE(nvmlDeviceGetMemoryInfo_v2, CHECKED(memory, 2u, put_memory_v2(handle, memory)), struct memory_v2 *memory)
GPU(nvmlDeviceGetCurrentClocksEventReasons, PUT(KEY(reasons), mask), ulonglong *mask)
GPU(nvmlDeviceGetTotalEnergyConsumption, PUT(energy_mj(handle->gpu), target), ulonglong *target)
GPU(nvmlDeviceGetTemperatureV,
    CHECKED(found, 1u, found->sensor ? INVALID_ARGUMENT : PUT(KEY(temperature_c), &found->celsius)),
    struct temperature *found)
GPU(nvmlDeviceGetMarginTemperature,
    CHECKED(found, 1u, KEY(slowdown_c) < 0 ? NOT_SUPPORTED : put_margin(KEY(slowdown_c) - KEY(temperature_c), found)),
    struct margin *found)
GPU(nvmlDeviceGetSramEccErrorStatus, CHECKED(sram, 1u, put_sram(handle->gpu, sram)), struct sram *sram)
GPU(nvmlDeviceGetRemappedRows, put_rows(handle->gpu, corrected, uncorrected, pending, failed),
    unsigned *corrected, unsigned *uncorrected, unsigned *pending, unsigned *failed)
GPU(nvmlDeviceGetRetiredPages_v2, put_retired_v2(handle->gpu, cause, count, addresses, timestamps),
    unsigned cause, unsigned *count, ulonglong *addresses, ulonglong *timestamps)

/* The fields: plain keys with a factor, the energy, and the times held back for a reason. */
enum { UINT = 1, ULONGLONG = 3 };
enum { PLAIN, ENERGY, HELD_BACK };
static const struct { unsigned id, type; int kind, key_or_mask; double factor; } FIELDS[] = {
    {1, UINT, PLAIN, ecc_mode, 1}, {52, ULONGLONG, PLAIN, nvlink_errors, 1}, {82, UINT, PLAIN, memory_temperature_c, 1},
    {94, UINT, PLAIN, pcie_replays, 1}, {142, UINT, PLAIN, remap_corrected, 1},
    {143, UINT, PLAIN, remap_uncorrected, 1}, {144, UINT, PLAIN, remap_pending, 1}, {145, UINT, PLAIN, remap_failed, 1},
    {185, UINT, PLAIN, power_w, 1000}, {186, UINT, PLAIN, power_w, 1000}, {83, ULONGLONG, ENERGY, 0, 0},
    {74, ULONGLONG, HELD_BACK, SW_POWER_CAP, 0}, {75, ULONGLONG, HELD_BACK, SW_THERMAL | HW_THERMAL, 0},
    {76, ULONGLONG, HELD_BACK, SYNC_BOOST, 0}, {269, ULONGLONG, HELD_BACK, SW_THERMAL, 0},
    {270, ULONGLONG, HELD_BACK, HW_THERMAL, 0}, {271, ULONGLONG, HELD_BACK, POWER_BRAKE, 0},
};

struct field { unsigned id, scope; int64_t timestamp_us, latency_us; unsigned type, code; ulonglong value; };
SIZE(struct field, 40);

static int put_field(int gpu, struct field *field)
{
    char function[24];
    snprintf(function, sizeof function, "field%u", field->id);
    TRY(enter(function, gpu));
    for (size_t i = 0; i < LENGTH(FIELDS); i++) {
        int kind = FIELDS[i].kind, key = FIELDS[i].key_or_mask;
        if (FIELDS[i].id == field->id) {
            field->type = FIELDS[i].type;
            return PUT(kind == ENERGY ? energy_mj(gpu) : kind == HELD_BACK ? held_back_ns(gpu, key)
                       : number_now(gpu, key) * FIELDS[i].factor, &field->value);
        }
    }
    return NOT_SUPPORTED;
}

static int put_fields(int gpu, int count, struct field *fields)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    for (int i = 0; i < count; i++) {
        fields[i].timestamp_us = now.tv_sec * 1000000ll + now.tv_nsec / 1000;
        fields[i].code = put_field(gpu, &fields[i]);
    }
    return count < 1 ? INVALID_ARGUMENT : SUCCESS;
}

struct process { unsigned pid; ulonglong used_bytes; unsigned gpu_instance, compute_instance; };
SIZE(struct process, 24);

static int put_processes(int gpu, unsigned *count, struct process *found)
{
    char text[160], *rest = text, *word;
    struct process all[80];
    unsigned size = 0;
    text_now(gpu, processes, text, sizeof text);
    while ((word = strsep(&rest, " ,")))
        if (*word)
            all[size++] = (struct process){strtoul(word, NULL, 10), 1ull << 30, ~0u, ~0u};
    TRY(put_size(size, count));
    if (found)
        memcpy(found, all, size * sizeof *all);
    return SUCCESS;
}

GPU(nvmlDeviceGetFieldValues, put_fields(handle->gpu, count, fields), int count, struct field *fields)
GPU_OR_SLICE(nvmlDeviceGetComputeRunningProcesses_v3, put_processes(handle->gpu, count, found),
             unsigned *count, struct process *found)
GPU_OR_SLICE(nvmlDeviceGetMPSComputeRunningProcesses_v3, ((void)found, put_size(0, count)),
             unsigned *count, struct process *found)

/* ------------------------------------------------------------------ MIG */

struct attributes {
    unsigned multiprocessors, copy_engines, decoders, encoders, jpegs, ofas, gpu_slices, compute_slices;
    ulonglong memory_mib;
};
SIZE(struct attributes, 40);

static int put_attributes(struct attributes *attributes)
{
    *attributes = (struct attributes){16, 1, 1, 0, 1, 0, 1, 1, SLICE_MIB}; /* 1g.10gb */
    return SUCCESS;
}

static int put_slice(int gpu, unsigned index, device *target)
{
    if (index >= MAX_SLICES)
        return INVALID_ARGUMENT;
    *target = &slices[gpu][index];
    return index < (unsigned)slice_count(gpu) ? SUCCESS : NOT_FOUND;
}

static int put_whole(device handle, device *target)
{
    *target = &gpus[handle->gpu];
    return handle->slice == WHOLE ? INVALID_ARGUMENT : SUCCESS;
}

#define MODE (KEY(mig) < 0 ? -1 : KEY(mig) > 0)
#define OF_SLICE(result) (handle->slice == WHOLE ? NOT_SUPPORTED : (result))
GPU(nvmlDeviceGetMigMode, put_pair(MODE, MODE, now, pending), unsigned *now, unsigned *pending)
GPU(nvmlDeviceGetMaxMigDeviceCount, PUT(KEY(mig) < 0 ? 0 : MAX_SLICES, target), unsigned *target)
GPU(nvmlDeviceGetMigDeviceHandleByIndex, put_slice(handle->gpu, index, target), unsigned index, device *target)
GPU_OR_SLICE(nvmlDeviceIsMigDeviceHandle, PUT(handle->slice != WHOLE, target), unsigned *target)
GPU_OR_SLICE(nvmlDeviceGetDeviceHandleFromMigDeviceHandle, put_whole(handle, target), device *target)
GPU_OR_SLICE(nvmlDeviceGetGpuInstanceId, OF_SLICE(PUT(handle->slice + 7, target)), unsigned *target)
GPU_OR_SLICE(nvmlDeviceGetComputeInstanceId, OF_SLICE(PUT(0, target)), unsigned *target)
GPU_OR_SLICE(nvmlDeviceGetAttributes_v2, OF_SLICE(put_attributes(attributes)), struct attributes *attributes)

/* ------------------------------------------------------------------ waiting for an XID */

/* An XID that came after its GPU was registered and that this set has not given yet. */
static int next_event(struct event_set *set, struct event *event)
{
    double now_s = passed_s();
    for (int i = 0; i < line_count; i++)
        for (int gpu = 0; gpu < device_count; gpu++)
            if (set->types[gpu] & XID_EVENT && is_active(&lines[i], xid, gpu, now_s) &&
                lines[i].from_s >= set->since_s[gpu] && !(set->given[i] >> gpu & 1)) {
                set->given[i] |= 1u << gpu;
                *event = (struct event){&gpus[gpu], XID_EVENT, lines[i].number, ~0u, ~0u};
                return 1;
            }
    return 0;
}

static int wait_for_event(struct event_set *set, struct event *event, unsigned timeout_ms)
{
    double end_s = passed_s() + timeout_ms * 1e-3;
    struct timespec pause = {0, 1000000};
    while (!next_event(set, event)) {
        /* NVML's documentation: waiting fails when one GPU is lost. What came before that is given first. */
        for (int gpu = 0; gpu < device_count; gpu++)
            if (set->types[gpu] && enter("nvmlEventSetWait_v2", gpu) == GPU_IS_LOST)
                return GPU_IS_LOST;
        if (passed_s() >= end_s)
            return TIMEOUT;
        nanosleep(&pause, NULL);
    }
    return SUCCESS;
}

SYSTEM(nvmlEventSetWait_v2, wait_for_event(set, event, timeout_ms),
       struct event_set *set, struct event *event, unsigned timeout_ms)
