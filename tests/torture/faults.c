// Makes calls fail now and then, as a file system or a clock may: preloaded into a run. Only paths under FAULTS_UNDER are touched.
//
// FAULTS_RATE: one call in so many fails. FAULTS_SEED: which. FAULTS_CLOCK: seconds that the clock goes back now and then.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static uint64_t count;

static uint64_t number(const char* name, uint64_t otherwise) {
  const char* text = getenv(name);
  return text ? strtoull(text, NULL, 10) : otherwise;
}

static uint64_t draw(void) {
  uint64_t value = number("FAULTS_SEED", 1) * 0x9E3779B97F4A7C15u + (uint64_t)getpid() * 0xD1342543DE82EF95u +
                   __atomic_add_fetch(&count, 1, __ATOMIC_RELAXED) * 0xBF58476D1CE4E5B9u;
  value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9u;
  value = (value ^ (value >> 27)) * 0x94D049BB133111EBu;
  return value ^ (value >> 31);
}

static int meant(const char* path) {
  const char* under = getenv("FAULTS_UNDER");
  return under && path && strncmp(path, under, strlen(under)) == 0;
}

static int meant_file(int file) {
  char link[64], path[4096];
  snprintf(link, sizeof link, "/proc/self/fd/%d", file);
  ssize_t length = readlink(link, path, sizeof path - 1);
  if (length < 0) return 0;
  path[length] = 0;
  return meant(path);
}

// Whether this call is to fail, and with what.
static int fails(const int* errors, int many) {
  uint64_t value = draw();
  if (value % number("FAULTS_RATE", 100)) return 0;
  errno = errors[(value >> 32) % many];
  return 1;
}

static const int WRITING[] = {ENOSPC, EIO};
static const int MAKING[] = {ENOSPC, EACCES, EROFS, EIO};

ssize_t write(int file, const void* bytes, size_t length) {
  if (meant_file(file)) {
    if (fails(WRITING, 2)) return -1;
    // Fewer bytes than were asked for, which is no error.
    if (length > 1 && draw() % 5 == 0) length = 1 + draw() % (length - 1);
  }
  return REAL(write)(file, bytes, length);
}

int fsync(int file) { return meant_file(file) && fails(WRITING, 2) ? -1 : REAL(fsync)(file); }
int fdatasync(int file) { return meant_file(file) && fails(WRITING, 2) ? -1 : REAL(fdatasync)(file); }
int rename(const char* from, const char* to) { return (meant(from) || meant(to)) && fails(MAKING, 4) ? -1 : REAL(rename)(from, to); }
int mkdir(const char* path, mode_t mode) { return meant(path) && fails(MAKING, 4) ? -1 : REAL(mkdir)(path, mode); }
int link(const char* from, const char* to) { return meant(to) && fails(MAKING, 4) ? -1 : REAL(link)(from, to); }
int linkat(int at, const char* from, int other, const char* to, int flags) {
  return meant(to) && fails(MAKING, 4) ? -1 : REAL(linkat)(at, from, other, to, flags);
}
ssize_t copy_file_range(int in, off64_t* from, int out, off64_t* to, size_t length, unsigned flags) {
  return meant_file(out) && fails(WRITING, 2) ? -1 : REAL(copy_file_range)(in, from, out, to, length, flags);
}

static mode_t mode_of(int flags, va_list arguments) { return flags & (O_CREAT | O_TMPFILE) ? va_arg(arguments, mode_t) : 0; }

#define OPEN(name)                                                                  \
  int name(const char* path, int flags, ...) {                                      \
    va_list arguments;                                                              \
    va_start(arguments, flags);                                                     \
    mode_t mode = mode_of(flags, arguments);                                        \
    va_end(arguments);                                                              \
    if ((flags & O_CREAT) && meant(path) && fails(MAKING, 4)) return -1;            \
    return REAL(name)(path, flags, mode);                                           \
  }
OPEN(open)
OPEN(open64)

int clock_gettime(clockid_t clock, struct timespec* now) {
  int found = REAL(clock_gettime)(clock, now);
  uint64_t back = number("FAULTS_CLOCK", 0);
  if (found == 0 && clock == CLOCK_REALTIME && back && draw() % 2) now->tv_sec -= (time_t)back;
  return found;
}
