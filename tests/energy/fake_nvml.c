/* A stand-in for libnvidia-ml.so.1 that plays scripted power curves.

   The script is a text file, one statement a line, named by $GAINWATT_FAKE_NVML or given to fake_nvml_load().
   Times are seconds since the script was loaded. With "clock virtual" the time moves only through fake_nvml_advance()
   and the cost of calls; with "clock real" it is the monotonic clock. Statements after "device" describe that device.

     clock virtual|real        driver VERSION        init_error CODE        wall_step T SECONDS (the wall clock is set)
     device UUID NAME          point T WATT (piecewise linear, sorted; held beyond both ends)
     counter_tick S            power_tick S (0: follows the curve exactly)
     counter_offset J          counter_reset T            counter_stick T
     cost power|counter|slow|record S
     fail power|counter|slow|record FIRST LAST CODE   (numbers of calls from 1; LAST 0: for ever)
     fail_at power|counter|slow|record|all T0 T1 CODE
     unsupported counter|instant|power|slow|limit|record
     record SPACING COUNT TYPE (nvmlValueType_t)      record_stick T (no sample after T)
     record_hole T0 T1 (no sample between them)       record_stamps sampled|asked (which wall clock stamps them)
     limit T WATT              default_limit WATT         temperature T CELSIUS
     throttle T0 T1 BITS       process PID BYTES          mig UUID          persistence 0|1                       */

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MAX_DEVICES 8
#define MAX_POINTS 8192
#define MAX_ROWS 64
enum { POWER, COUNTER, SLOW, RECORD, KINDS };
enum { NOT_SUPPORTED = 3, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7, INVALID = 2, UNINITIALIZED = 1, FUNCTION_NOT_FOUND = 13 };

typedef struct { int kind; double first, last; int code, by_time; } Failure;
typedef struct { double t0, t1, value; } Row;
typedef struct { char uuid[96]; } Mig;
typedef struct {
  char name[96], uuid[96];
  double t[MAX_POINTS], w[MAX_POINTS], sum[MAX_POINTS];
  int points;
  double counter_tick, power_tick, offset, reset_at, stick_at, cost[KINDS];
  long calls[KINDS];
  Failure failures[MAX_ROWS]; int failure_count;
  int no_counter, no_instant, no_power, no_slow, no_limit, no_record;
  double spacing, stick_record; int ring, value_type, stamps_when_asked;
  Row holes[MAX_ROWS]; int hole_count;
  Row limits[MAX_ROWS], temperatures[MAX_ROWS], throttles[MAX_ROWS];
  int limit_count, temperature_count, throttle_count;
  double default_limit;
  unsigned pids[MAX_ROWS]; unsigned long long bytes[MAX_ROWS]; int process_count;
  Mig migs[MAX_ROWS]; int mig_count, persistence;
} Device;

static Device devices[MAX_DEVICES];
static int device_count, real_clock, initialized, init_error, loaded;
static double virtual_now, started, wall_start;
static Row wall_steps[MAX_ROWS];
static int wall_step_count;
static char driver[80] = "1.0-fake";

static double monotonic(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

double fake_nvml_now(void) { return real_clock ? monotonic() - started : virtual_now; }
static double wall_at(double t, double asked) {
  double wall = wall_start + t;
  for (int i = 0; i < wall_step_count; i++) if (wall_steps[i].t0 <= asked) wall += wall_steps[i].value;
  return wall;
}
double fake_nvml_wall(void) { return wall_at(fake_nvml_now(), fake_nvml_now()); }
void fake_nvml_advance(double seconds) { virtual_now += seconds; }
long fake_nvml_calls(int device, int kind) { return devices[device].calls[kind]; }

static int kind_of(const char *word) { return !strcmp(word, "power") ? POWER : !strcmp(word, "counter") ? COUNTER : !strcmp(word, "record") ? RECORD : !strcmp(word, "all") ? KINDS : SLOW; }

static void device_statement(Device *d, const char *word, const char *rest) {
  char a[96] = ""; double x = 0, y = 0, z = 0; int code = 0;
  if (!strcmp(word, "point") && sscanf(rest, "%lf %lf", &x, &y) == 2 && d->points < MAX_POINTS) {
    int i = d->points++;
    d->t[i] = x; d->w[i] = y;
    d->sum[i] = i ? d->sum[i - 1] + 0.5 * (d->w[i - 1] + y) * (x - d->t[i - 1]) : 0.0;
  } else if (!strcmp(word, "counter_tick")) d->counter_tick = atof(rest);
  else if (!strcmp(word, "power_tick")) d->power_tick = atof(rest);
  else if (!strcmp(word, "counter_offset")) d->offset = atof(rest);
  else if (!strcmp(word, "counter_reset")) d->reset_at = atof(rest);
  else if (!strcmp(word, "counter_stick")) d->stick_at = atof(rest);
  else if (!strcmp(word, "record") && sscanf(rest, "%lf %d %d", &d->spacing, &d->ring, &d->value_type) == 3) return;
  else if (!strcmp(word, "record_stick")) d->stick_record = atof(rest);
  else if (!strcmp(word, "record_hole") && sscanf(rest, "%lf %lf", &x, &y) == 2) d->holes[d->hole_count++] = (Row){x, y, 0};
  else if (!strcmp(word, "record_stamps")) d->stamps_when_asked = !strcmp(rest, "asked");
  else if (!strcmp(word, "default_limit")) d->default_limit = atof(rest);
  else if (!strcmp(word, "persistence")) d->persistence = atoi(rest);
  else if (!strcmp(word, "cost") && sscanf(rest, "%95s %lf", a, &x) == 2) d->cost[kind_of(a)] = x;
  else if ((!strcmp(word, "fail") || !strcmp(word, "fail_at")) && sscanf(rest, "%95s %lf %lf %d", a, &x, &y, &code) == 4)
    d->failures[d->failure_count++] = (Failure){kind_of(a), x, y, code, word[4] == '_'};
  else if (!strcmp(word, "limit") && sscanf(rest, "%lf %lf", &x, &y) == 2) d->limits[d->limit_count++] = (Row){x, 0, y};
  else if (!strcmp(word, "temperature") && sscanf(rest, "%lf %lf", &x, &y) == 2)
    d->temperatures[d->temperature_count++] = (Row){x, 0, y};
  else if (!strcmp(word, "throttle") && sscanf(rest, "%lf %lf %lf", &x, &y, &z) == 3)
    d->throttles[d->throttle_count++] = (Row){x, y, z};
  else if (!strcmp(word, "process") && sscanf(rest, "%lf %lf", &x, &y) == 2) {
    d->pids[d->process_count] = (unsigned)x; d->bytes[d->process_count++] = (unsigned long long)y;
  } else if (!strcmp(word, "mig") && sscanf(rest, "%95s", a) == 1) strcpy(d->migs[d->mig_count++].uuid, a);
  else if (!strcmp(word, "unsupported") && sscanf(rest, "%95s", a) == 1) {
    d->no_counter |= !strcmp(a, "counter"); d->no_instant |= !strcmp(a, "instant"); d->no_power |= !strcmp(a, "power");
    d->no_slow |= !strcmp(a, "slow"); d->no_limit |= !strcmp(a, "limit");
    d->no_record |= !strcmp(a, "record");
  } else { fprintf(stderr, "fake_nvml: cannot read '%s %s'\n", word, rest); abort(); }
}

void fake_nvml_load(const char *path) {
  FILE *file = fopen(path, "r");
  char line[512], word[64];
  if (!file) { fprintf(stderr, "fake_nvml: cannot open %s\n", path); abort(); }
  memset(devices, 0, sizeof devices);
  device_count = real_clock = init_error = wall_step_count = 0; virtual_now = 0.0; loaded = 1;
  while (fgets(line, sizeof line, file)) {
    int used = 0;
    line[strcspn(line, "\n")] = 0;
    if (sscanf(line, "%63s %n", word, &used) != 1) continue;
    const char *rest = line + used;
    if (!strcmp(word, "clock")) real_clock = !strcmp(rest, "real");
    else if (!strcmp(word, "driver")) snprintf(driver, sizeof driver, "%s", rest);
    else if (!strcmp(word, "init_error")) init_error = atoi(rest);
    else if (!strcmp(word, "wall_step")) {
      Row *row = &wall_steps[wall_step_count++];
      sscanf(rest, "%lf %lf", &row->t0, &row->value);
    } else if (!strcmp(word, "device")) {
      Device *d = &devices[device_count++];
      int skip = 0;
      sscanf(rest, "%95s %n", d->uuid, &skip);
      snprintf(d->name, sizeof d->name, "%s", rest + skip);
      d->counter_tick = 0.1; d->default_limit = 700; d->reset_at = d->stick_at = d->stick_record = INFINITY; d->persistence = 1;
      d->spacing = 0.02; d->ring = 119; d->value_type = 1;
    } else device_statement(&devices[device_count - 1], word, rest);
  }
  fclose(file);
  struct timespec wall;
  clock_gettime(CLOCK_REALTIME, &wall);
  started = monotonic();
  wall_start = real_clock ? (double)wall.tv_sec + 1e-9 * (double)wall.tv_nsec : 1.7e9;
}

static double energy_at(const Device *d, double t) {
  int low = 0, high = d->points - 1;
  if (d->points == 0) return 0;
  if (t <= d->t[0]) return d->w[0] * (t - d->t[0]);
  if (t >= d->t[high]) return d->sum[high] + d->w[high] * (t - d->t[high]);
  while (high - low > 1) { int mid = (low + high) / 2; if (d->t[mid] <= t) low = mid; else high = mid; }
  double part = t - d->t[low], slope = (d->w[high] - d->w[low]) / (d->t[high] - d->t[low]);
  return d->sum[low] + d->w[low] * part + 0.5 * slope * part * part;
}

static double power_at(const Device *d, double t) {
  int i = d->points - 1;
  if (d->power_tick > 0) t = floor(t / d->power_tick) * d->power_tick;
  if (i < 0) return 0;
  if (t <= d->t[0]) return d->w[0];
  if (t >= d->t[i]) return d->w[i];
  while (d->t[i] > t) i--;
  return d->w[i] + (d->w[i + 1] - d->w[i]) * (t - d->t[i]) / (d->t[i + 1] - d->t[i]);
}

static int enter(Device *d, int kind) {
  long call = ++d->calls[kind];
  if (!initialized) return UNINITIALIZED;
  if (d < devices || d >= devices + MAX_DEVICES) return INVALID;
  if (!real_clock) virtual_now += d->cost[kind];
  for (int i = 0; i < d->failure_count; i++) {
    Failure *f = &d->failures[i];
    double at = f->by_time ? fake_nvml_now() : (double)call;
    if ((f->kind == kind || f->kind == KINDS) && at >= f->first && (f->last == 0 || at <= f->last)) return f->code;
  }
  return 0;
}

static double held(const Row *rows, int count, double otherwise) {
  double value = otherwise, now = fake_nvml_now();
  for (int i = 0; i < count; i++) if (rows[i].t0 <= now) value = rows[i].value;
  return value;
}

int nvmlInitWithFlags(unsigned flags) {
  (void)flags;
  if (!loaded && getenv("GAINWATT_FAKE_NVML")) fake_nvml_load(getenv("GAINWATT_FAKE_NVML"));
  if (init_error) return init_error;
  initialized++;  /* the real library counts its users: it shuts down with the last of them */
  return 0;
}
int nvmlShutdown(void) { initialized -= initialized > 0; return 0; }
const char *nvmlErrorString(int code) { (void)code; return "scripted error"; }
int nvmlSystemGetDriverVersion(char *text, unsigned size) { snprintf(text, size, "%s", driver); return 0; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = (unsigned)device_count; return initialized ? 0 : UNINITIALIZED; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) {
  if (index >= (unsigned)device_count) return INVALID;
  *handle = &devices[index];
  return 0;
}
int nvmlDeviceGetUUID(void *handle, char *text, unsigned size) {
  for (int i = 0; i < device_count; i++)
    for (int j = 0; j < devices[i].mig_count; j++)
      if (handle == (void *)&devices[i].migs[j]) { snprintf(text, size, "%s", devices[i].migs[j].uuid); return 0; }
  snprintf(text, size, "%s", ((Device *)handle)->uuid);
  return 0;
}
int nvmlDeviceGetName(Device *d, char *text, unsigned size) { snprintf(text, size, "%s", d->name); return 0; }

int nvmlDeviceGetTotalEnergyConsumption(Device *d, unsigned long long *millijoules) {
  int code = enter(d, COUNTER);
  if (code) return code;
  if (d->no_counter) return NOT_SUPPORTED;
  double t = fmin(fake_nvml_now(), d->stick_at), base = d->offset;
  if (d->counter_tick > 0) t = floor(t / d->counter_tick + 1e-9) * d->counter_tick;
  if (t >= d->reset_at) base = -energy_at(d, d->reset_at);
  *millijoules = (unsigned long long)floor(1e3 * (base + energy_at(d, t)) + 0.5);
  return 0;
}

int nvmlDeviceGetPowerUsage(Device *d, unsigned *milliwatts) {
  int code = enter(d, POWER);
  if (code) return code;
  if (d->no_power) return NOT_SUPPORTED;
  *milliwatts = (unsigned)floor(1e3 * power_at(d, fake_nvml_now()) + 0.5);
  return 0;
}

typedef struct { uint64_t stamp; union { double d; uint32_t u; uint64_t ull; int64_t ll; int32_t i; uint16_t us; } value; } Sample;

static Sample sample_of(const Device *d, double t, double asked) {
  Sample sample;
  double milliwatts = floor(1e3 * power_at(d, t) + 0.5);
  memset(&sample, 0xa5, sizeof sample); /* what a short value leaves of the union holds anything */
  sample.stamp = (uint64_t)floor(1e6 * wall_at(t, d->stamps_when_asked ? asked : t) + 0.5);
  switch (d->value_type) {
    case 0: sample.value.d = milliwatts; break;
    case 1: sample.value.u = (uint32_t)milliwatts; break;
    case 4: sample.value.ll = (int64_t)milliwatts; break;
    case 5: sample.value.i = (int32_t)milliwatts; break;
    case 6: sample.value.us = (uint16_t)milliwatts; break;
    default: sample.value.ull = (uint64_t)milliwatts;
  }
  return sample;
}

int nvmlDeviceGetSamples(Device *d, int type, unsigned long long after, unsigned *value_type, unsigned *count, Sample *out) {
  int code = enter(d, RECORD);
  unsigned room = *count, found = 0;
  double now = fake_nvml_now();
  if (code) return code;
  if (d->no_record || d->no_power || type != 0) return NOT_SUPPORTED;
  *value_type = (unsigned)d->value_type;
  if (!out) { *count = (unsigned)d->ring; return 0; }
  long last = (long)floor(fmin(now, d->stick_record) / d->spacing + 1e-9);
  for (long k = last - d->ring + 1; k <= last; k++) {
    double t = (double)k * d->spacing;
    int hidden = 0;
    for (int i = 0; i < d->hole_count; i++) hidden |= d->holes[i].t0 <= t && t < d->holes[i].t1;
    Sample sample = sample_of(d, t, now);
    if (hidden || sample.stamp <= after) continue;
    if (found == room) return INSUFFICIENT_SIZE;
    out[found++] = sample;
  }
  *count = found;
  return found ? 0 : NOT_FOUND;
}

typedef struct { uint32_t field, scope; int64_t timestamp, latency; uint32_t type, code; uint64_t value; } FieldValue;

int nvmlDeviceGetFieldValues(Device *d, int count, FieldValue *values) {
  int code = enter(d, POWER);
  if (code) return code;
  for (int i = 0; i < count; i++) {
    values[i].type = 1;
    values[i].code = values[i].field != 186 || d->no_instant || d->no_power ? NOT_SUPPORTED : 0;
    values[i].value = (uint64_t)floor(1e3 * power_at(d, fake_nvml_now()) + 0.5);
    uint32_t field = values[i].field;
    unsigned bit = field == 74 ? 0x4 : field == 269 ? 0x20 : field == 270 ? 0x40 : field == 271 ? 0x80 : 0;
    if (!bit || d->no_slow) continue;
    values[i].type = 3; values[i].code = 0; values[i].value = 0;
    for (int j = 0; j < d->throttle_count; j++) {
      double seconds = fmin(d->throttles[j].t1, fake_nvml_now()) - d->throttles[j].t0;
      if (((unsigned)d->throttles[j].value & bit) && seconds > 0) values[i].value += (uint64_t)(1e9 * seconds);
    }
  }
  return 0;
}

static int slow(Device *d) { int code = enter(d, SLOW); return code ? code : d->no_slow ? NOT_SUPPORTED : 0; }

int nvmlDeviceGetTemperature(Device *d, unsigned sensor, unsigned *celsius) {
  int code = slow(d); (void)sensor;
  *celsius = (unsigned)held(d->temperatures, d->temperature_count, 40);
  return code;
}
int nvmlDeviceGetClockInfo(Device *d, unsigned type, unsigned *mhz) { *mhz = type == 1 ? 1500 : 2600; return slow(d); }
int nvmlDeviceGetCurrentClocksEventReasons(Device *d, unsigned long long *bits) {
  double now = fake_nvml_now();
  *bits = 0;
  for (int i = 0; i < d->throttle_count; i++)
    if (d->throttles[i].t0 <= now && now <= d->throttles[i].t1) *bits |= (unsigned long long)d->throttles[i].value;
  return slow(d);
}
typedef struct { unsigned long long total, available, used; } Memory;
int nvmlDeviceGetMemoryInfo(Device *d, Memory *m) { *m = (Memory){64ull << 30, 60ull << 30, 4ull << 30}; return slow(d); }
int nvmlDeviceGetEnforcedPowerLimit(Device *d, unsigned *mw) {
  *mw = (unsigned)(1e3 * held(d->limits, d->limit_count, d->default_limit));
  return d->no_limit ? NOT_SUPPORTED : 0;
}
int nvmlDeviceGetPowerManagementDefaultLimit(Device *d, unsigned *mw) {
  *mw = (unsigned)(1e3 * d->default_limit);
  return d->no_limit ? NOT_SUPPORTED : 0;
}
int nvmlDeviceGetPersistenceMode(Device *d, unsigned *mode) { *mode = (unsigned)d->persistence; return 0; }
int nvmlDeviceGetMigMode(Device *d, unsigned *now, unsigned *later) { *now = *later = d->mig_count > 0; return 0; }
int nvmlDeviceGetMaxMigDeviceCount(Device *d, unsigned *count) { (void)d; *count = 7; return 0; }
int nvmlDeviceGetMigDeviceHandleByIndex(Device *d, unsigned index, void **handle) {
  if (index >= (unsigned)d->mig_count) return NOT_FOUND;
  *handle = &d->migs[index];
  return 0;
}
typedef struct { unsigned pid; unsigned long long bytes; unsigned gpu, compute; } Process;
int nvmlDeviceGetComputeRunningProcesses_v3(Device *d, unsigned *count, Process *list) {
  unsigned room = *count;
  *count = (unsigned)d->process_count;
  if (d->process_count == 0) return 0;
  if (room < *count || !list) return INSUFFICIENT_SIZE;
  for (int i = 0; i < d->process_count; i++) list[i] = (Process){d->pids[i], d->bytes[i], 0, 0};
  return 0;
}
