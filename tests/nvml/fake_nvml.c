/* A stand-in for NVIDIA's libnvidia-ml.so.1, so that what reads NVML can be tested through the real pynvml, without
 * a GPU. The C ABI is the one that pynvml's ctypes definitions state; what it shows is what a script says (script.h).
 * Only getters are exported: a caller that sets anything finds no symbol.
 *
 * With -DOLD_DRIVER it lacks the functions that some driver in the field lacks, all at once.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>

#include "script.h"

#define EXPORT __attribute__((visibility("default")))
#define LENGTH(array) (sizeof(array) / sizeof *(array))
#define SIZE(type, bytes) _Static_assert(sizeof(type) == (bytes), "not as large as pynvml's")

enum { SUCCESS, UNINITIALIZED, INVALID_ARGUMENT, NOT_SUPPORTED, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7, TIMEOUT = 10,
       GPU_IS_LOST = 15, ARGUMENT_VERSION_MISMATCH = 25, UNKNOWN = 999 };
enum { SW_POWER_CAP = 0x4, SYNC_BOOST = 0x10, SW_THERMAL = 0x20, HW_THERMAL = 0x40, POWER_BRAKE = 0x80 };
enum { XID_EVENT = 0x8, EVENTS = XID_EVENT | 0x1 | 0x2 | 0x10 };
enum { MAX_SLICES = 7, SLICE_MIB = 9856, WHOLE = -1 };

struct handle { int gpu, slice; }; /* slice: WHOLE for the GPU itself, else the number of a MIG device on it */
typedef const struct handle *device;
typedef unsigned long long ulonglong;

static int init_count;
static struct handle gpus[MAX_GPUS], slices[MAX_GPUS][MAX_SLICES];

/* ------------------------------------------------------------------ what the calls have in common */

/* The code with which the script lets a function fail; "all" means what is asked of a GPU. */
static int enter(const char *function, int gpu)
{
    double now_s = passed_s();
    if (!init_count)
        return UNINITIALIZED;
    for (int i = line_count - 1; i >= 0; i--)
        if (is_active(&lines[i], fail, gpu, now_s) &&
            (!strcmp(lines[i].text, function) || (gpu != NO_GPU && !strcmp(lines[i].text, "all"))))
            return lines[i].number;
    return SUCCESS;
}

static int enter_any(const char *function, device handle)
{
    int is_gpu = handle >= gpus && handle < gpus + device_count;
    int is_slice = handle >= slices[0] && handle < slices[0] + MAX_GPUS * MAX_SLICES;
    if (!init_count)
        return UNINITIALIZED;
    return is_gpu || is_slice ? enter(function, handle->gpu) : INVALID_ARGUMENT;
}

static int enter_gpu(const char *function, device handle)
{
    int code = enter_any(function, handle);
    return code ? code : handle->slice == WHOLE ? SUCCESS : NOT_SUPPORTED;
}

#define TRY(call) do { int code_ = (call); if (code_) return code_; } while (0)

/* FUNCTION(its name, what it does, its parameters ...) of the library, of a GPU, of a GPU or a MIG device. */
#define SYSTEM(function, result, ...) \
    EXPORT int function(__VA_ARGS__) { TRY(enter(__func__, NO_GPU)); return result; }
#define GPU(function, result, ...) \
    EXPORT int function(device handle, __VA_ARGS__) { TRY(enter_gpu(__func__, handle)); return result; }
#define GPU_OR_SLICE(function, result, ...) \
    EXPORT int function(device handle, __VA_ARGS__) { TRY(enter_any(__func__, handle)); return result; }

static int put_number(double number, void *target, size_t size)
{
    if (!target)
        return INVALID_ARGUMENT;
    if (number < 0)
        return NOT_SUPPORTED;
    if (size == sizeof(unsigned))
        *(unsigned *)target = number;
    else
        *(ulonglong *)target = number;
    return SUCCESS;
}
#define PUT(number, target) put_number(number, target, sizeof *(target))
#define KEY(key) number_now(handle->gpu, key)

static int put_text(const char *text, char *target, unsigned size)
{
    if (!target)
        return INVALID_ARGUMENT;
    if (strlen(text) + 1 > size)
        return INSUFFICIENT_SIZE;
    strcpy(target, text);
    return SUCCESS;
}

static int put_key_text(int gpu, int key, char *target, unsigned size)
{
    char text[160];
    text_now(gpu, key, text, sizeof text);
    return put_text(text, target, size);
}

/* NVML's protocol for lists: a call without room tells the size. */
static int put_size(unsigned found, unsigned *count)
{
    if (!count)
        return INVALID_ARGUMENT;
    int fits = found <= *count;
    *count = found;
    return fits ? SUCCESS : INSUFFICIENT_SIZE;
}

/* ------------------------------------------------------------------ the library and the system */

static int is_function(const char *function)
{
#ifdef OLD_DRIVER
    return *function != 0; /* so that one script serves both variants */
#else
    void *self = dlopen("libnvidia-ml.so.1", RTLD_LAZY | RTLD_NOLOAD);
    return !strcmp(function, "all") || !strncmp(function, "field", 5) || (self && dlsym(self, function));
#endif
}

EXPORT int nvmlInitWithFlags(unsigned flags)
{
    (void)flags;
    if (!init_count) {
        if (!read_script(getenv("VNBENCH_FAKE_NVML"), is_function))
            return UNKNOWN;
        TRY(init_code);
        for (int gpu = 0; gpu < MAX_GPUS; gpu++) {
            gpus[gpu] = (struct handle){gpu, WHOLE};
            for (int slice = 0; slice < MAX_SLICES; slice++)
                slices[gpu][slice] = (struct handle){gpu, slice};
        }
    }
    init_count++;
    return SUCCESS;
}

EXPORT int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }

EXPORT int nvmlShutdown(void)
{
    if (!init_count)
        return UNINITIALIZED;
    init_count--;
    return SUCCESS;
}

EXPORT const char *nvmlErrorString(int code)
{
    static const struct { int code; const char *text; } TEXTS[] = {
        {SUCCESS, "Success"}, {UNINITIALIZED, "Uninitialized"}, {INVALID_ARGUMENT, "Invalid Argument"},
        {NOT_SUPPORTED, "Not Supported"}, {4, "Insufficient Permissions"}, {NOT_FOUND, "Not Found"},
        {INSUFFICIENT_SIZE, "Insufficient Size"}, {9, "Driver Not Loaded"}, {TIMEOUT, "Timeout"},
        {GPU_IS_LOST, "GPU is lost"}, {16, "GPU requires restart"}, {18, "Driver/library version mismatch"},
        {ARGUMENT_VERSION_MISMATCH, "Argument version mismatch"},
    };
    for (size_t i = 0; i < LENGTH(TEXTS); i++)
        if (TEXTS[i].code == code)
            return TEXTS[i].text;
    return "Unknown Error";
}

/* NVML's own version begins with the CUDA release that it belongs to. */
static int put_nvml_version(char *target, unsigned size)
{
    char text[180];
    int end = snprintf(text, sizeof text, "%d.", (int)number_now(0, cuda) / 1000);
    text_now(0, driver, text + end, sizeof text - end);
    return put_text(text, target, size);
}

SYSTEM(nvmlSystemGetDriverVersion, put_key_text(0, driver, target, size), char *target, unsigned size)
SYSTEM(nvmlSystemGetNVMLVersion, put_nvml_version(target, size), char *target, unsigned size)
SYSTEM(nvmlSystemGetCudaDriverVersion, PUT(number_now(0, cuda), target), int *target)
SYSTEM(nvmlDeviceGetCount_v2, PUT(device_count, target), unsigned *target)

/* ------------------------------------------------------------------ handles, identity */

static int slice_count(int gpu)
{
    double count = number_now(gpu, mig);
    return count < 0 ? 0 : count > MAX_SLICES ? MAX_SLICES : count;
}

static int put_uuid(device handle, char *target, unsigned size)
{
    char text[96];
    if (handle->slice == WHOLE)
        return put_key_text(handle->gpu, uuid, target, size);
    snprintf(text, sizeof text, "MIG-%08d-0000-4000-8000-%012d", handle->slice, handle->gpu);
    return put_text(text, target, size);
}

static int is_wanted(device handle, const char *wanted)
{
    char text[160];
    return !put_uuid(handle, text, sizeof text) && !strcmp(text, wanted);
}

static device by_uuid(const char *wanted)
{
    for (int gpu = 0; gpu < device_count; gpu++) {
        if (is_wanted(&gpus[gpu], wanted))
            return &gpus[gpu];
        for (int slice = 0; slice < slice_count(gpu); slice++)
            if (is_wanted(&slices[gpu][slice], wanted))
                return &slices[gpu][slice];
    }
    return NULL;
}

static int put_handle(device handle, int otherwise, const char *function, device *target)
{
    if (!handle || !target)
        return otherwise;
    *target = handle;
    return enter(function, handle->gpu);
}

SYSTEM(nvmlDeviceGetHandleByIndex_v2,
       put_handle(index < (unsigned)device_count ? &gpus[index] : NULL, INVALID_ARGUMENT, __func__, target),
       unsigned index, device *target)
SYSTEM(nvmlDeviceGetHandleByUUID, put_handle(by_uuid(wanted), NOT_FOUND, __func__, target),
       const char *wanted, device *target)

static int put_name(device handle, char *target, unsigned size)
{
    char text[180];
    text_now(handle->gpu, name, text, 160);
    return put_text(handle->slice == WHOLE ? text : strcat(text, " MIG 1g.10gb"), target, size);
}

struct pci_info { char bus_id_legacy[16]; unsigned domain, bus, device, id, subsystem_id; char bus_id[32]; };
SIZE(struct pci_info, 68);

static int put_pci_info(int gpu, struct pci_info *info)
{
    *info = (struct pci_info){.bus = 0x10 + gpu, .id = 0x233010de, .subsystem_id = 0x16c110de};
    snprintf(info->bus_id_legacy, sizeof info->bus_id_legacy, "0000:%02X:00.0", info->bus);
    snprintf(info->bus_id, sizeof info->bus_id, "00000000:%02X:00.0", info->bus);
    return SUCCESS;
}

struct memory { ulonglong total, free, used; };
SIZE(struct memory, 24);

static int put_memory(device handle, struct memory *memory)
{
    ulonglong total_mib = handle->slice == WHOLE ? KEY(memory_mib) : SLICE_MIB;
    *memory = (struct memory){total_mib << 20, (total_mib - 600) << 20, 600ull << 20};
    return SUCCESS;
}

static int put_version(double version, int *major, int *minor)
{
    *major = version;
    *minor = (version - *major) * 10 + 0.5;
    return SUCCESS;
}

GPU(nvmlDeviceGetIndex, PUT(handle->gpu, target), unsigned *target)
GPU_OR_SLICE(nvmlDeviceGetUUID, put_uuid(handle, target, size), char *target, unsigned size)
GPU_OR_SLICE(nvmlDeviceGetName, put_name(handle, target, size), char *target, unsigned size)
GPU(nvmlDeviceGetSerial, put_key_text(handle->gpu, serial, target, size), char *target, unsigned size)
GPU(nvmlDeviceGetVbiosVersion, put_key_text(handle->gpu, vbios, target, size), char *target, unsigned size)
GPU(nvmlDeviceGetBoardPartNumber, put_key_text(handle->gpu, part_number, target, size), char *target, unsigned size)
GPU(nvmlDeviceGetPciInfo_v3, put_pci_info(handle->gpu, info), struct pci_info *info)
GPU_OR_SLICE(nvmlDeviceGetMemoryInfo, put_memory(handle, memory), struct memory *memory)
GPU_OR_SLICE(nvmlDeviceGetCudaComputeCapability, put_version(KEY(compute_capability), major, minor),
             int *major, int *minor)
GPU(nvmlDeviceGetPersistenceMode, PUT(KEY(persistence), target), unsigned *target)
GPU(nvmlDeviceGetComputeMode, PUT(KEY(compute_mode), target), unsigned *target)

/* ------------------------------------------------------------------ power, clocks, heat */

static int put_pair(double one, double other, unsigned *first, unsigned *second)
{
    TRY(PUT(one, first));
    return PUT(other, second);
}

GPU(nvmlDeviceGetPowerUsage, PUT(KEY(power_w) * 1000, target), unsigned *target)
GPU(nvmlDeviceGetEnforcedPowerLimit, PUT(KEY(power_limit_w) * 1000, target), unsigned *target)
GPU(nvmlDeviceGetPowerManagementLimit, PUT(KEY(power_limit_w) * 1000, target), unsigned *target)
GPU(nvmlDeviceGetPowerManagementDefaultLimit, PUT(KEY(power_limit_default_w) * 1000, target), unsigned *target)
GPU(nvmlDeviceGetPowerManagementLimitConstraints,
    put_pair(KEY(power_limit_min_w) * 1000, KEY(power_limit_max_w) * 1000, least, most),
    unsigned *least, unsigned *most)

/* NVML's clocks are graphics, SM, memory and video. */
#define CLOCK(sm_key, mem_key) (type > 3 ? INVALID_ARGUMENT : PUT(KEY(type == 2 ? mem_key : sm_key), target))
GPU(nvmlDeviceGetClockInfo, CLOCK(sm_clock_mhz, mem_clock_mhz), unsigned type, unsigned *target)
GPU(nvmlDeviceGetMaxClockInfo, CLOCK(sm_clock_max_mhz, mem_clock_max_mhz), unsigned type, unsigned *target)
GPU(nvmlDeviceGetApplicationsClock, CLOCK(app_clock_mhz, mem_clock_max_mhz), unsigned type, unsigned *target)
GPU(nvmlDeviceGetDefaultApplicationsClock, CLOCK(default_app_clock_mhz, mem_clock_max_mhz),
    unsigned type, unsigned *target)
GPU(nvmlDeviceGetCurrentClocksThrottleReasons, PUT(KEY(reasons), mask), ulonglong *mask)

static double held_back_ns(int gpu, unsigned mask) { return integral(gpu, reasons, mask) * 1e9; }

struct violation { ulonglong reference_us, violation_ns; };
SIZE(struct violation, 16);

static int put_violation(int gpu, unsigned policy, struct violation *status)
{
    static const unsigned MASKS[] = {SW_POWER_CAP, SW_THERMAL | HW_THERMAL, SYNC_BOOST};
    if (policy > 11)
        return INVALID_ARGUMENT;
    status->reference_us = passed_s() * 1e6;
    return PUT(policy < LENGTH(MASKS) ? held_back_ns(gpu, MASKS[policy]) : 0, &status->violation_ns);
}

static int put_threshold(int gpu, unsigned threshold, unsigned *target)
{
    static const int THRESHOLDS[] = {shutdown_c, slowdown_c, memory_max_c};
    if (threshold > 7)
        return INVALID_ARGUMENT;
    return threshold < LENGTH(THRESHOLDS) ? PUT(number_now(gpu, THRESHOLDS[threshold]), target) : NOT_SUPPORTED;
}

GPU(nvmlDeviceGetViolationStatus, put_violation(handle->gpu, policy, status),
    unsigned policy, struct violation *status)
GPU(nvmlDeviceGetTemperature, sensor ? INVALID_ARGUMENT : PUT(KEY(temperature_c), target),
    unsigned sensor, unsigned *target)
GPU(nvmlDeviceGetTemperatureThreshold, put_threshold(handle->gpu, threshold, target),
    unsigned threshold, unsigned *target)

/* ------------------------------------------------------------------ errors */

static int put_ecc(int gpu, unsigned type, unsigned counter, ulonglong *count)
{
    if (type > 1 || counter > 1)
        return INVALID_ARGUMENT;
    if (number_now(gpu, ecc_mode) <= 0)
        return NOT_SUPPORTED;
    double before = counter ? number_now(gpu, type ? ecc_uncorrected_before : ecc_corrected_before) : 0;
    return PUT(before + number_now(gpu, type ? ecc_uncorrected : ecc_corrected), count);
}

static int put_ecc_of(int gpu, unsigned type, unsigned counter, unsigned location, ulonglong *count)
{
    enum { DRAM = 2, SRAM = 7 };
    TRY(put_ecc(gpu, type, counter, count));
    if (location == SRAM)
        *count = type ? number_now(gpu, sram_uncorrected) : 0;
    return location == SRAM || location == DRAM ? SUCCESS : NOT_SUPPORTED;
}

static int put_retired(int gpu, unsigned cause, unsigned *count, ulonglong *addresses)
{
    double pages = number_now(gpu, retired_pages);
    if (cause > 1 || pages < 0)
        return cause > 1 ? INVALID_ARGUMENT : NOT_SUPPORTED;
    unsigned found = cause ? pages : 0; /* all of them for double-bit errors */
    TRY(put_size(found, count));
    for (unsigned page = 0; addresses && page < found; page++)
        addresses[page] = 0x10000ull * (page + 1);
    return SUCCESS;
}

GPU(nvmlDeviceGetEccMode, put_pair(KEY(ecc_mode), KEY(ecc_mode), now, pending), unsigned *now, unsigned *pending)
GPU(nvmlDeviceGetTotalEccErrors, put_ecc(handle->gpu, type, counter, count),
    unsigned type, unsigned counter, ulonglong *count)
GPU(nvmlDeviceGetMemoryErrorCounter, put_ecc_of(handle->gpu, type, counter, location, count),
    unsigned type, unsigned counter, unsigned location, ulonglong *count)
GPU(nvmlDeviceGetRetiredPages, put_retired(handle->gpu, cause, count, addresses),
    unsigned cause, unsigned *count, ulonglong *addresses)
GPU(nvmlDeviceGetRetiredPagesPendingStatus, PUT(KEY(retired_pending), target), unsigned *target)

/* ------------------------------------------------------------------ links */

/* Links with the highest numbers are down; all errors are replays of link 0. */
#define LINK(result) (!KEY(nvlinks) ? NOT_SUPPORTED : link >= KEY(nvlinks) ? INVALID_ARGUMENT : (result))
GPU(nvmlDeviceGetNvLinkState, LINK(PUT(link < KEY(nvlinks) - KEY(nvlinks_down), is_up)), unsigned link, unsigned *is_up)
GPU(nvmlDeviceGetNvLinkVersion, LINK(PUT(KEY(nvlink_version), version)), unsigned link, unsigned *version)
GPU(nvmlDeviceGetNvLinkErrorCounter,
    LINK(counter > 4 ? INVALID_ARGUMENT : PUT(link || counter ? 0 : KEY(nvlink_errors), count)),
    unsigned link, unsigned counter, ulonglong *count)
GPU(nvmlDeviceGetCurrPcieLinkGeneration, PUT(KEY(pcie_generation), target), unsigned *target)
GPU(nvmlDeviceGetCurrPcieLinkWidth, PUT(KEY(pcie_width), target), unsigned *target)
GPU(nvmlDeviceGetMaxPcieLinkGeneration, PUT(KEY(pcie_generation_max), target), unsigned *target)
GPU(nvmlDeviceGetMaxPcieLinkWidth, PUT(KEY(pcie_width_max), target), unsigned *target)
GPU(nvmlDeviceGetPcieReplayCounter, PUT(KEY(pcie_replays), target), unsigned *target)

/* ------------------------------------------------------------------ events */

struct event_set { ulonglong types[MAX_GPUS]; double since_s[MAX_GPUS]; unsigned given[MAX_LINES]; };
struct event { device handle; ulonglong type, data; unsigned gpu_instance, compute_instance; };
SIZE(struct event, 32);

static int create_set(struct event_set **set)
{
    *set = calloc(1, sizeof **set);
    return SUCCESS;
}

static int free_set(struct event_set *set)
{
    free(set);
    return SUCCESS;
}

static int register_events(int gpu, ulonglong types, struct event_set *set)
{
    if (!types || types & ~(ulonglong)EVENTS)
        return types ? NOT_SUPPORTED : INVALID_ARGUMENT;
    set->types[gpu] = types;
    set->since_s[gpu] = passed_s();
    return SUCCESS;
}

GPU(nvmlDeviceGetSupportedEventTypes, PUT(EVENTS, types), ulonglong *types)
SYSTEM(nvmlEventSetCreate, create_set(set), struct event_set **set)
SYSTEM(nvmlEventSetFree, free_set(set), struct event_set *set)
GPU(nvmlDeviceRegisterEvents, register_events(handle->gpu, types, set), ulonglong types, struct event_set *set)

#ifndef OLD_DRIVER
#include "recent.h"
#endif
