/* What a script says of each GPU at each moment. Its language is described in tests/nvml/__init__.py. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MAX_GPUS = 16, MAX_LINES = 512, EVERY_GPU = -1, NO_GPU = -2 };

#ifdef OLD_DRIVER
#define DRIVER "418.226.00"
#define CUDA 10010
#else
#define DRIVER "580.65.06"
#define CUDA 13000
#endif

/* Each key with what an idle, healthy H100 shows. A text may hold one %d, the GPU's index. A number below zero means
 * that the device does not support it. */
#define KEYS(TEXT, NUMBER) \
    TEXT(name, "NVIDIA H100 80GB HBM3") TEXT(uuid, "GPU-00000000-0000-4000-8000-%012d") TEXT(serial, "1650223%06d") \
    TEXT(vbios, "96.00.74.00.01") TEXT(part_number, "692-2G520-0200-000") TEXT(processes, "") \
    TEXT(driver, DRIVER) NUMBER(cuda, CUDA) \
    NUMBER(architecture, 9) NUMBER(compute_capability, 9.0) NUMBER(memory_mib, 81559) NUMBER(numa_node, 0) \
    NUMBER(power_w, 70) NUMBER(power_limit_w, 700) NUMBER(power_limit_default_w, 700) \
    NUMBER(power_limit_min_w, 200) NUMBER(power_limit_max_w, 700) \
    NUMBER(sm_clock_mhz, 345) NUMBER(mem_clock_mhz, 2619) NUMBER(sm_clock_max_mhz, 1980) \
    NUMBER(mem_clock_max_mhz, 2619) NUMBER(app_clock_mhz, 1980) NUMBER(default_app_clock_mhz, 1980) \
    NUMBER(reasons, 0x1) NUMBER(temperature_c, 35) NUMBER(memory_temperature_c, 45) \
    NUMBER(slowdown_c, 89) NUMBER(shutdown_c, 92) NUMBER(memory_max_c, 95) \
    NUMBER(ecc_mode, 1) NUMBER(ecc_corrected, 0) NUMBER(ecc_uncorrected, 0) NUMBER(ecc_corrected_before, 0) \
    NUMBER(ecc_uncorrected_before, 0) NUMBER(sram_uncorrected, 0) NUMBER(sram_threshold, 0) \
    NUMBER(remap_corrected, 0) NUMBER(remap_uncorrected, 0) NUMBER(remap_pending, 0) NUMBER(remap_failed, 0) \
    NUMBER(retired_pages, -1) NUMBER(retired_pending, -1) \
    NUMBER(pcie_generation, 5) NUMBER(pcie_width, 16) NUMBER(pcie_generation_max, 5) NUMBER(pcie_width_max, 16) \
    NUMBER(pcie_replays, 0) NUMBER(nvlinks, 18) NUMBER(nvlinks_down, 0) NUMBER(nvlink_errors, 0) \
    NUMBER(nvlink_version, 6) NUMBER(xid, 0) NUMBER(mig, 0) NUMBER(persistence, 1) NUMBER(compute_mode, 0)

#define TEXT_NAME(key, text) key,
#define NUMBER_NAME(key, number) key,
enum key { KEYS(TEXT_NAME, NUMBER_NAME) fail, KEY_COUNT = fail };

#define TEXT_ROW(key, text) {#key, text, 0},
#define NUMBER_ROW(key, number) {#key, NULL, number},
static const struct { const char *name, *text; double number; } DEFAULTS[] = {KEYS(TEXT_ROW, NUMBER_ROW)};

struct line { int gpu, key; char text[160]; double number, from_s, until_s; };

static struct line lines[MAX_LINES];
static int line_count, device_count, init_code;
static double start_s; /* the script's second 0 on CLOCK_MONOTONIC */

static double passed_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec + 1e-9 * now.tv_nsec - start_s;
}

/* ------------------------------------------------------------------ asking it */

static int is_active(const struct line *line, int key, int gpu, double at_s)
{
    return line->key == key && (line->gpu == EVERY_GPU || line->gpu == gpu) && line->from_s <= at_s &&
           at_s < line->until_s;
}

static const struct line *find(int gpu, int key, double at_s)
{
    for (int i = line_count - 1; i >= 0; i--)
        if (is_active(&lines[i], key, gpu, at_s))
            return &lines[i];
    return NULL;
}

static double number_at(int gpu, int key, double at_s)
{
    const struct line *line = find(gpu, key, at_s);
    return line ? line->number : DEFAULTS[key].number;
}

static double number_now(int gpu, int key) { return number_at(gpu, key, passed_s()); }

static void text_now(int gpu, int key, char *text, size_t size)
{
    const struct line *line = find(gpu, key, passed_s());
    if (line)
        snprintf(text, size, "%s", line->text);
    else
        snprintf(text, size, DEFAULTS[key].text, gpu);
}

/* The integral since second 0 of a key's number, or with a mask the seconds in which one of its bits was set. */
static double integral(int gpu, int key, unsigned mask)
{
    double sum = 0, at_s = 0, now_s = passed_s();
    while (at_s < now_s) {
        double next_s = now_s, number = number_at(gpu, key, at_s);
        for (int i = 0; i < line_count; i++) {
            if (lines[i].from_s > at_s && lines[i].from_s < next_s)
                next_s = lines[i].from_s;
            if (lines[i].until_s > at_s && lines[i].until_s < next_s)
                next_s = lines[i].until_s;
        }
        sum += (next_s - at_s) * (mask ? ((unsigned)number & mask) != 0 : number);
        at_s = next_s;
    }
    return sum;
}

/* ------------------------------------------------------------------ reading it */

static char *strip(char *text)
{
    char *end = text + strlen(text);
    while (end > text && strchr(" \t\r\n", end[-1]))
        *--end = 0;
    return text + strspn(text, " \t");
}

static int parse_value(struct line *line, const char *key, int (*is_function)(const char *))
{
    char function[80], *number_end;
    int end = 0;
    if (!strcmp(key, "fail")) {
        line->key = fail;
        if (sscanf(line->text, "%79s %lf%n", function, &line->number, &end) != 2 || line->text[end])
            return 0;
        strcpy(line->text, function);
        return is_function(function);
    }
    while (line->key < KEY_COUNT && strcmp(key, DEFAULTS[line->key].name))
        line->key++;
    if (line->key == KEY_COUNT || DEFAULTS[line->key].text)
        return line->key < KEY_COUNT;
    line->number = strtod(line->text, &number_end); /* also hexadecimal */
    return number_end != line->text && !*number_end && (line->key != xid || line->from_s >= 0);
}

/* Takes "@from", "@from-" or "@from-until" off the end of the text. */
static int parse_window(struct line *line, char *text)
{
    char *window = strstr(text, " @"), *dash, *end;
    line->from_s = -1e300;
    line->until_s = 1e300;
    if (!window)
        return 1;
    *window = 0;
    line->from_s = strtod(window + 2, &dash);
    if (dash == window + 2 || !strcmp(dash, "") || !strcmp(dash, "-"))
        return dash != window + 2;
    line->until_s = strtod(dash + 1, &end);
    return *dash == '-' && !*end && line->from_s < line->until_s;
}

static int parse(char *text, int (*is_function)(const char *))
{
    struct line line = {.gpu = EVERY_GPU};
    char gpu[8], key[40], rest;
    int at = 0;
    if (sscanf(text, "devices %d %c", &device_count, &rest) == 1)
        return device_count >= 0 && device_count <= MAX_GPUS;
    if (sscanf(text, "start %lf %c", &start_s, &rest) == 1 || sscanf(text, "init %d %c", &init_code, &rest) == 1)
        return 1;
    if (line_count == MAX_LINES || !parse_window(&line, text) || sscanf(text, "%7s %39s %n", gpu, key, &at) != 2 || !at)
        return 0;
    if (strcmp(gpu, "*") && (sscanf(gpu, "%d%c", &line.gpu, &rest) != 1 || line.gpu < 0 || line.gpu >= device_count))
        return 0;
    snprintf(line.text, sizeof line.text, "%s", strip(text + at));
    lines[line_count] = line;
    return parse_value(&lines[line_count++], key, is_function);
}

/* 0 with a word on stderr where it cannot be understood. Second 0 stays when the same file is read again. */
static int read_script(const char *path, int (*is_function)(const char *))
{
    static char path_before[4096];
    char text[1024], whole[1024];
    int number = 0, is_clear = 1;
    FILE *file = path ? fopen(path, "r") : NULL;
    if (!file) {
        fprintf(stderr, "fake NVML: the script cannot be read: %s\n", path ? path : "VNBENCH_FAKE_NVML is not set");
        return 0;
    }
    if (strcmp(path, path_before)) {
        start_s = 0;
        start_s = passed_s();
        snprintf(path_before, sizeof path_before, "%s", path);
    }
    line_count = init_code = 0;
    device_count = 1;
    while (is_clear && fgets(text, sizeof text, file) && ++number) {
        text[strcspn(text, "#\n")] = 0;
        strcpy(whole, text);
        is_clear = !*strip(text) || parse(strip(text), is_function);
    }
    fclose(file);
    if (!is_clear)
        fprintf(stderr, "fake NVML: %s, line %d is not understood: %s\n", path, number, whole);
    return is_clear;
}
