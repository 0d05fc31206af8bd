/* Faults of the disk at chosen moments, for tests of the real program. Loaded before it (LD_PRELOAD), this counts the
 * calls that change files below one folder, writes each of them to a log, and at a chosen one kills the process, just
 * before or just after the call, or lets the call fail without doing anything. It counts over all threads of the process;
 * `strace -e inject=...:when=N` counts each thread by itself, so its N-th call is another one each time.
 *
 * It must never change what a call does that is not chosen, and never write below the folder itself.
 *
 * FAULTS_ROOT   the folder, an absolute path without links; calls elsewhere are neither counted nor logged
 * FAULTS_LOG    the log: number, kind, name, outcome, path, second path, detail, with tabs between them. The number is 0
 *               for calls that are not chosen from. The detail of a sync is the file's size; that of opening is `new` or
 *               `emptied`; that of giving a name is where the file is kept that had it, if FAULTS_KEEP is set
 * FAULTS_KEEP   a folder of the same file system, for other names of files whose names are given to others
 * FAULTS_KINDS  kinds to choose from: a comma at each end and between (",sync,name,"); see the wrappers below
 * FAULTS_PATH   only calls whose path contains this text
 * FAULTS_AT     the first call that is chosen, counted from 1; 0 for none
 * FAULTS_COUNT  how many calls are chosen from there on; 1 by default
 * FAULTS_DO     `before`, `after` (kill), or the number of an error that the call fails with
 * FAULTS_SKIP   syncs of paths that contain this text do nothing and say that they did: what a program does that forgets
 *               them; for tests of tests
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static const char *root, *kinds, *path_part, *skipped, *kept_in;
static size_t root_length;
static long at, count = 1;
static int kill_before, kill_after, error_number;
static int log_file = -1;
static atomic_long seen, kept;

static const char *setting(const char *name, const char *otherwise) {
    const char *value = getenv(name);
    return value ? value : otherwise;
}

__attribute__((constructor)) static void begin(void) {
    kinds = setting("FAULTS_KINDS", "");
    path_part = setting("FAULTS_PATH", "");
    at = atol(setting("FAULTS_AT", "0"));
    count = atol(setting("FAULTS_COUNT", "1"));
    const char *what = setting("FAULTS_DO", "");
    kill_before = !strcmp(what, "before");
    kill_after = !strcmp(what, "after");
    error_number = atoi(what);
    const char *log = setting("FAULTS_LOG", "");
    if (*log) log_file = (int)syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    skipped = setting("FAULTS_SKIP", "");
    kept_in = setting("FAULTS_KEEP", "");
    root = getenv("FAULTS_ROOT");
    root_length = root ? strlen(root) : 0;
}

/* One call: where it is, whether it is chosen, and what the log says of it. */
struct call {
    long number;
    int is_below, is_chosen;
    const char *kind, *name;
    char path[PATH_MAX], other[PATH_MAX], detail[32];
};

static int is_below_root(const char *path) {
    return root && !strncmp(path, root, root_length) && (path[root_length] == '/' || !path[root_length]);
}

static void write_down(const struct call *call, const char *outcome) {
    if (log_file < 0) return;
    char line[2 * PATH_MAX + 128];
    const char *other = is_below_root(call->other) ? call->other + root_length : call->other;
    int length = snprintf(line, sizeof line, "%ld\t%s\t%s\t%s\t%s\t%s\t%s\n", call->number, call->kind, call->name,
                          outcome, call->path + root_length, other, call->detail);
    /* One write to a file that is open for appending: lines of two threads do not mix. */
    syscall(SYS_write, log_file, line, length);
}

static void die(const struct call *call, const char *outcome) {
    write_down(call, outcome);
    syscall(SYS_kill, getpid(), SIGKILL);
    for (;;) pause();
}

/* Counts the call. The error that it shall fail with, or 0. */
static int enter(struct call *call) {
    int saved = errno;
    call->is_below = is_below_root(call->path) || is_below_root(call->other);
    call->number = 0;
    call->is_chosen = 0;
    if (call->is_below) {
        char kind[32];
        snprintf(kind, sizeof kind, ",%s,", call->kind);
        if (strstr(kinds, kind) && (strstr(call->path, path_part) || strstr(call->other, path_part))) {
            call->number = atomic_fetch_add(&seen, 1) + 1;
            call->is_chosen = at > 0 && call->number >= at && call->number - at < count;
        }
        if (call->is_chosen && kill_before) die(call, "killed before");
        if (call->is_chosen && error_number) {
            write_down(call, "failed on purpose");
            errno = error_number;
            return error_number;
        }
    }
    errno = saved;
    return 0;
}

static void leave(struct call *call, int has_failed) {
    if (!call->is_below) return;
    int saved = errno;
    if (call->is_chosen && kill_after) die(call, "killed after");
    write_down(call, has_failed ? "failed" : "done");
    errno = saved;
}

static void name_of(int file, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = syscall(SYS_readlinkat, AT_FDCWD, link, path, PATH_MAX - 1);
    path[length > 0 ? length : 0] = 0;
}

/* The program names files by absolute paths; a relative one starts at a folder that is open, or at the current one. */
static void absolute(int folder, const char *path, char *out) {
    out[0] = 0;
    if (path[0] != '/') {
        if (folder != AT_FDCWD) name_of(folder, out);
        else if (syscall(SYS_getcwd, out, PATH_MAX) < 0) out[0] = 0;
        strncat(out, "/", PATH_MAX - strlen(out) - 1);
    }
    strncat(out, path, PATH_MAX - strlen(out) - 1);
}

static int exists(const char *path) { return !syscall(SYS_faccessat, AT_FDCWD, path, F_OK); }

/* Keeps the file that is about to lose its name. */
static void keep(struct call *call) {
    int saved = errno;
    char path[PATH_MAX];
    if (*kept_in && is_below_root(call->other) && exists(call->other)) {
        snprintf(call->detail, sizeof call->detail, "%ld", atomic_fetch_add(&kept, 1) + 1);
        snprintf(path, sizeof path, "%s/%s", kept_in, call->detail);
        syscall(SYS_linkat, AT_FDCWD, call->other, AT_FDCWD, path, 0);
    }
    errno = saved;
}

#define REAL(name) ((__typeof__(&name))real(&name##_real, #name))
#define KEPT(name) static void *name##_real

static void *real(void **kept, const char *name) {
    if (!*kept) *kept = dlsym(RTLD_NEXT, name);
    return *kept;
}

#define AROUND(TYPE, CALL)                                \
    if (enter(&call)) return -1;                          \
    TYPE result = CALL;                                   \
    leave(&call, result < 0);                             \
    return result

#define ON_FILE(KIND, NAME, TYPE, PARAMETERS, ...)        \
    KEPT(NAME);                                           \
    TYPE NAME PARAMETERS {                                \
        struct call call = {.kind = KIND, .name = #NAME}; \
        name_of(file, call.path);                         \
        AROUND(TYPE, REAL(NAME)(__VA_ARGS__));            \
    }

ON_FILE("write", write, ssize_t, (int file, const void *data, size_t size), file, data, size)
ON_FILE("write", writev, ssize_t, (int file, const struct iovec *parts, int number), file, parts, number)
ON_FILE("write", pwrite, ssize_t, (int file, const void *data, size_t size, off_t place), file, data, size, place)
ON_FILE("write", pwrite64, ssize_t, (int file, const void *data, size_t size, off64_t place), file, data, size, place)
ON_FILE("write", ftruncate, int, (int file, off_t size), file, size)
ON_FILE("write", ftruncate64, int, (int file, off64_t size), file, size)

KEPT(copy_file_range);
ssize_t copy_file_range(int from, off64_t *at_from, int file, off64_t *at_to, size_t size, unsigned flags) {
    struct call call = {.kind = "write", .name = "copy_file_range"};
    name_of(file, call.path);
    AROUND(ssize_t, REAL(copy_file_range)(from, at_from, file, at_to, size, flags));
}

/* After a sync the log says how long the file is: what comes later may be lost with the power. */
static int synced(int file, const char *name, int (*sync)(int)) {
    struct call call = {.kind = "sync", .name = name};
    name_of(file, call.path);
    if (enter(&call)) return -1;
    if (*skipped && call.is_below && strstr(call.path, skipped)) {
        write_down(&call, "skipped");
        return 0;
    }
    int result = sync(file);
    struct stat found;
    if (!fstat(file, &found)) snprintf(call.detail, sizeof call.detail, "%lld", (long long)found.st_size);
    leave(&call, result < 0);
    return result;
}

KEPT(fsync);
int fsync(int file) { return synced(file, "fsync", REAL(fsync)); }

KEPT(fdatasync);
int fdatasync(int file) { return synced(file, "fdatasync", REAL(fdatasync)); }

#define TWO_PATHS(NAME, FROM_FOLDER, TO_FOLDER, PARAMETERS, ...) \
    KEPT(NAME);                                                  \
    int NAME PARAMETERS {                                        \
        struct call call = {.kind = "name", .name = #NAME};      \
        absolute(FROM_FOLDER, from, call.path);                  \
        absolute(TO_FOLDER, to, call.other);                     \
        keep(&call);                                             \
        AROUND(int, REAL(NAME)(__VA_ARGS__));                    \
    }

TWO_PATHS(rename, AT_FDCWD, AT_FDCWD, (const char *from, const char *to), from, to)
TWO_PATHS(link, AT_FDCWD, AT_FDCWD, (const char *from, const char *to), from, to)
TWO_PATHS(renameat, a, b, (int a, const char *from, int b, const char *to), a, from, b, to)
TWO_PATHS(renameat2, a, b, (int a, const char *from, int b, const char *to, unsigned f), a, from, b, to, f)
TWO_PATHS(linkat, a, b, (int a, const char *from, int b, const char *to, int f), a, from, b, to, f)

#define ONE_PATH(KIND, NAME, FOLDER, PARAMETERS, ...)     \
    KEPT(NAME);                                           \
    int NAME PARAMETERS {                                 \
        struct call call = {.kind = KIND, .name = #NAME}; \
        absolute(FOLDER, path, call.path);                \
        AROUND(int, REAL(NAME)(__VA_ARGS__));             \
    }

ONE_PATH("make", mkdir, AT_FDCWD, (const char *path, mode_t mode), path, mode)
ONE_PATH("remove", unlink, AT_FDCWD, (const char *path), path)
ONE_PATH("remove", rmdir, AT_FDCWD, (const char *path), path)
ONE_PATH("remove", unlinkat, folder, (int folder, const char *path, int flags), folder, path, flags)

/* Opening changes something only where it may make a file, or empties one. */
#define OPENING(NAME, FOLDER, PARAMETERS, ...)                    \
    KEPT(NAME);                                                   \
    int NAME PARAMETERS {                                         \
        mode_t mode = 0;                                          \
        if (flags & (O_CREAT | O_TMPFILE)) {                      \
            va_list rest;                                         \
            va_start(rest, flags);                                \
            mode = va_arg(rest, mode_t);                          \
            va_end(rest);                                         \
        }                                                         \
        if (!(flags & (O_CREAT | O_TRUNC))) return REAL(NAME)(__VA_ARGS__); \
        struct call call = {.kind = "make", .name = #NAME};       \
        absolute(FOLDER, path, call.path);                        \
        strcpy(call.detail, !exists(call.path) ? "new" : flags & O_TRUNC ? "emptied" : ""); \
        AROUND(int, REAL(NAME)(__VA_ARGS__));                     \
    }

OPENING(open, AT_FDCWD, (const char *path, int flags, ...), path, flags, mode)
OPENING(open64, AT_FDCWD, (const char *path, int flags, ...), path, flags, mode)
OPENING(openat, folder, (int folder, const char *path, int flags, ...), folder, path, flags, mode)
OPENING(openat64, folder, (int folder, const char *path, int flags, ...), folder, path, flags, mode)
