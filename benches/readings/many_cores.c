// Preloaded into a broker, so that it finds CORES cores where there are fewer: what it pins to a core that is not there
// runs on one that is. Only counts of such a broker mean something.

#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static const char TOPOLOGY[] = "/sys/devices/system/cpu/cpu";

static long real_cores(void) { return sysconf(_SC_NPROCESSORS_CONF); }

int sched_getaffinity(pid_t pid, size_t bytes, cpu_set_t *set) {
    (void)pid;
    memset(set, 0, bytes);
    for (long core = 0; core < atol(getenv("CORES")); core++) CPU_SET_S(core, bytes, set);
    return 0;
}

int sched_setaffinity(pid_t pid, size_t bytes, const cpu_set_t *asked) {
    cpu_set_t found;
    CPU_ZERO(&found);
    for (size_t core = 0; core < bytes * 8; core++)
        if (CPU_ISSET_S(core, bytes, asked)) CPU_SET(core % real_cores(), &found);
    return syscall(SYS_sched_setaffinity, pid, sizeof found, &found) < 0 ? -1 : 0;
}

/* What is told of a core that is not there is what is told of one that is. */
static const char *told(const char *path, char *buffer, size_t bytes) {
    size_t prefix = sizeof TOPOLOGY - 1;
    if (strncmp(path, TOPOLOGY, prefix) || path[prefix] < '0' || path[prefix] > '9') return path;
    char *rest;
    long core = strtol(path + prefix, &rest, 10);
    snprintf(buffer, bytes, "%s%ld%s", TOPOLOGY, core % real_cores(), rest);
    return buffer;
}

static int list_of_all(void) {
    int file = memfd_create("cores", 0);
    dprintf(file, "0-%ld\n", atol(getenv("CORES")) - 1);
    lseek(file, 0, SEEK_SET);
    return file;
}

int open64(const char *path, int flags, ...) {
    if (!strcmp(path, "/sys/devices/system/cpu/online") || !strcmp(path, "/sys/devices/system/node/node0/cpulist")) return list_of_all();
    char buffer[4096];
    va_list rest;
    va_start(rest, flags);
    int (*real)(const char *, int, ...) = dlsym(RTLD_NEXT, "open64");
    int file = real(told(path, buffer, sizeof buffer), flags, va_arg(rest, int));
    va_end(rest);
    return file;
}

DIR *opendir(const char *path) {
    char buffer[4096];
    DIR *(*real)(const char *) = dlsym(RTLD_NEXT, "opendir");
    return real(told(path, buffer, sizeof buffer));
}
