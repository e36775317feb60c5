/* Faults of file systems, for tests: a library that is loaded by LD_PRELOAD and counts the calls of a process that
 * change files below one folder. At call number N it kills the process, or lets the call fail.
 *
 * `shim_arm` starts the count; until then all calls pass. Each counted call is a line of the log: "NUMBER NAME PATH".
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { RECORD, KILL_BEFORE, KILL_AFTER, KILL_HALF, FAIL_ONCE, FAIL_LASTING, SHORT_ONCE, SHORT_LASTING, SEND_SIGNAL };
enum verdict { GO, FAIL, HALF, HALF_THEN_DIE, THEN_DIE };

static char folder[PATH_MAX], only[256], without[256];
static size_t folder_length;
static int armed, action, value, log_descriptor;
static long target, count;

/* Args: folder; action; number of the call, from 1; errno or signal; only calls on paths that contain `only_in`, if it
 * is not empty; no calls on paths that contain `not_in`, if it is not empty; descriptor of the log, -1 for none. */
void shim_arm(const char *in, int what, long number, int code, const char *only_in, const char *not_in, int log) {
    snprintf(folder, sizeof folder, "%s", in);
    snprintf(only, sizeof only, "%s", only_in);
    snprintf(without, sizeof without, "%s", not_in);
    folder_length = strlen(folder);
    action = what, target = number, value = code, log_descriptor = log, count = 0;
    armed = 1;
}

static void die(void) { syscall(SYS_kill, syscall(SYS_getpid), SIGKILL); }

static const char *path_of(int descriptor, char *buffer) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, buffer, PATH_MAX - 1);
    buffer[length > 0 ? length : 0] = 0;
    return buffer;
}

static const char *path_at(int descriptor, const char *path, char *buffer) {
    if (path == NULL || path[0] == '/' || descriptor == AT_FDCWD) return path;
    path_of(descriptor, buffer);
    size_t length = strlen(buffer);
    snprintf(buffer + length, PATH_MAX - length, "/%s", path);
    return buffer;
}

/* frees_space: a call that succeeds on a full disk. */
static enum verdict decide(const char *name, const char *path, int writes, int frees_space) {
    if (path == NULL || strncmp(path, folder, folder_length) != 0) return GO;
    if (path[folder_length] != '/' && path[folder_length] != 0) return GO;
    if (only[0] && strstr(path, only) == NULL) return GO;
    if (without[0] && strstr(path, without) != NULL) return GO;
    long number = __atomic_add_fetch(&count, 1, __ATOMIC_SEQ_CST);
    if (log_descriptor >= 0) {
        char line[PATH_MAX + 64];
        int length = snprintf(line, sizeof line, "%ld %s %s\n", number, name, path + folder_length);
        syscall(SYS_write, log_descriptor, line, (size_t)length);
    }
    int spared = frees_space && (value == ENOSPC || value == EDQUOT);
    enum verdict fails = spared ? GO : FAIL;
    switch (action) {
        case KILL_BEFORE: if (number == target) die(); return GO;
        case KILL_AFTER: return number == target ? THEN_DIE : GO;
        case KILL_HALF: return number != target ? GO : writes ? HALF_THEN_DIE : THEN_DIE;
        case FAIL_ONCE: return number == target ? fails : GO;
        case FAIL_LASTING: return number >= target ? fails : GO;
        case SHORT_ONCE: return number == target && writes ? HALF : number == target + writes ? fails : GO;
        case SHORT_LASTING: return number == target && writes ? HALF : number >= target ? fails : GO;
        case SEND_SIGNAL: if (number == target) syscall(SYS_kill, syscall(SYS_getpid), value); return GO;
        default: return GO;
    }
}

#define REAL(type, name) type (*real)() = (type(*)())dlsym(RTLD_NEXT, name)

/* A call by path or by descriptor without a count of bytes. */
#define CALL(type, failed, name, path, frees_space, ...)                     \
    REAL(type, name);                                                         \
    char buffer[PATH_MAX];                                                    \
    (void)buffer;                                                             \
    enum verdict verdict = armed ? decide(name, path, 0, frees_space) : GO;   \
    if (verdict == FAIL) { errno = value; return failed; }                    \
    type result = real(__VA_ARGS__);                                          \
    if (verdict == THEN_DIE) die();                                           \
    return result

/* A call that writes `size` bytes; `size` is halved for a short write. */
#define WRITE(name, descriptor, size, ...)                                                   \
    REAL(ssize_t, name);                                                                      \
    char buffer[PATH_MAX];                                                                    \
    enum verdict verdict = armed ? decide(name, path_of(descriptor, buffer), 1, 0) : GO;      \
    if (verdict == FAIL) { errno = value; return -1; }                                        \
    if (verdict == HALF || verdict == HALF_THEN_DIE) size = size > 1 ? size / 2 : size;       \
    ssize_t result = real(__VA_ARGS__);                                                       \
    if (verdict == THEN_DIE || verdict == HALF_THEN_DIE) die();                               \
    return result

ssize_t write(int fd, const void *data, size_t size) { WRITE("write", fd, size, fd, data, size); }
ssize_t pwrite(int fd, const void *data, size_t size, off_t at) { WRITE("pwrite", fd, size, fd, data, size, at); }
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) { WRITE("pwrite64", fd, size, fd, data, size, at); }
ssize_t sendfile(int fd, int from, off_t *at, size_t size) { WRITE("sendfile", fd, size, fd, from, at, size); }
ssize_t sendfile64(int fd, int from, off64_t *at, size_t size) { WRITE("sendfile64", fd, size, fd, from, at, size); }
ssize_t copy_file_range(int from, off64_t *from_at, int fd, off64_t *at, size_t size, unsigned flags) {
    WRITE("copy_file_range", fd, size, from, from_at, fd, at, size, flags);
}

/* A short write of several blocks writes the first block only, or half of a single block. */
static ssize_t write_blocks(const char *name, int fd, const struct iovec *blocks, int num, off64_t at, int has_at) {
    REAL(ssize_t, name);
    char buffer[PATH_MAX];
    struct iovec first = num > 0 ? blocks[0] : (struct iovec){0};
    enum verdict verdict = armed ? decide(name, path_of(fd, buffer), 1, 0) : GO;
    if (verdict == FAIL) { errno = value; return -1; }
    if (verdict == HALF || verdict == HALF_THEN_DIE) {
        if (num == 1 && first.iov_len > 1) first.iov_len /= 2;
        blocks = &first, num = num > 0;
    }
    ssize_t result = has_at ? real(fd, blocks, num, at) : real(fd, blocks, num);
    if (verdict == THEN_DIE || verdict == HALF_THEN_DIE) die();
    return result;
}

ssize_t writev(int fd, const struct iovec *blocks, int num) { return write_blocks("writev", fd, blocks, num, 0, 0); }
ssize_t pwritev(int fd, const struct iovec *blocks, int num, off_t at) {
    return write_blocks("pwritev", fd, blocks, num, at, 1);
}
ssize_t pwritev64(int fd, const struct iovec *blocks, int num, off64_t at) {
    return write_blocks("pwritev64", fd, blocks, num, at, 1);
}

int rename(const char *from, const char *to) { CALL(int, -1, "rename", to, 0, from, to); }
int renameat(int dir, const char *from, int to_dir, const char *to) {
    CALL(int, -1, "renameat", path_at(to_dir, to, buffer), 0, dir, from, to_dir, to);
}
int renameat2(int dir, const char *from, int to_dir, const char *to, unsigned flags) {
    CALL(int, -1, "renameat2", path_at(to_dir, to, buffer), 0, dir, from, to_dir, to, flags);
}
int fsync(int fd) { CALL(int, -1, "fsync", path_of(fd, buffer), 0, fd); }
int fdatasync(int fd) { CALL(int, -1, "fdatasync", path_of(fd, buffer), 0, fd); }
int ftruncate(int fd, off_t size) { CALL(int, -1, "ftruncate", path_of(fd, buffer), 1, fd, size); }
int ftruncate64(int fd, off64_t size) { CALL(int, -1, "ftruncate64", path_of(fd, buffer), 1, fd, size); }
int unlink(const char *path) { CALL(int, -1, "unlink", path, 1, path); }
int unlinkat(int dir, const char *path, int flags) {
    CALL(int, -1, "unlinkat", path_at(dir, path, buffer), 1, dir, path, flags);
}
int rmdir(const char *path) { CALL(int, -1, "rmdir", path, 1, path); }
int remove(const char *path) { CALL(int, -1, "remove", path, 1, path); }
int mkdir(const char *path, mode_t mode) { CALL(int, -1, "mkdir", path, 0, path, mode); }
int mkdirat(int dir, const char *path, mode_t mode) {
    CALL(int, -1, "mkdirat", path_at(dir, path, buffer), 0, dir, path, mode);
}
int link(const char *from, const char *to) { CALL(int, -1, "link", to, 0, from, to); }
int linkat(int dir, const char *from, int to_dir, const char *to, int flags) {
    CALL(int, -1, "linkat", path_at(to_dir, to, buffer), 0, dir, from, to_dir, to, flags);
}
int symlink(const char *from, const char *to) { CALL(int, -1, "symlink", to, 0, from, to); }
int symlinkat(const char *from, int dir, const char *to) {
    CALL(int, -1, "symlinkat", path_at(dir, to, buffer), 0, from, dir, to);
}
int utimensat(int dir, const char *path, const struct timespec times[2], int flags) {
    CALL(int, -1, "utimensat", path_at(dir, path, buffer), 1, dir, path, times, flags);
}

/* Opening: counted if the file is opened for writing. A file that exists can be opened on a full disk. */
static int open_file(const char *name, int dir, const char *path, int flags, mode_t mode, int has_dir) {
    REAL(int, name);
    char buffer[PATH_MAX];
    enum verdict verdict = GO;
    if (armed && path != NULL && (flags & (O_WRONLY | O_RDWR | O_CREAT | O_TRUNC))) {
        const char *whole = path_at(dir, path, buffer);
        verdict = decide("open", whole, 0, syscall(SYS_access, whole, F_OK) == 0);
    }
    if (verdict == FAIL) { errno = value; return -1; }
    int result = has_dir ? real(dir, path, flags, mode) : real(path, flags, mode);
    if (verdict == THEN_DIE) die();
    return result;
}

#define MODE(last)                                                      \
    mode_t mode = 0;                                                    \
    if (last & (O_CREAT | __O_TMPFILE)) {                               \
        va_list more;                                                   \
        va_start(more, last);                                           \
        mode = (mode_t)va_arg(more, int);                               \
        va_end(more);                                                   \
    }

int open(const char *path, int flags, ...) { MODE(flags) return open_file("open", AT_FDCWD, path, flags, mode, 0); }
int open64(const char *path, int flags, ...) { MODE(flags) return open_file("open64", AT_FDCWD, path, flags, mode, 0); }
int openat(int dir, const char *path, int flags, ...) { MODE(flags) return open_file("openat", dir, path, flags, mode, 1); }
int openat64(int dir, const char *path, int flags, ...) {
    MODE(flags) return open_file("openat64", dir, path, flags, mode, 1);
}
int creat(const char *path, mode_t mode) { return open(path, O_CREAT | O_WRONLY | O_TRUNC, mode); }

static FILE *open_stream(const char *name, const char *path, const char *mode) {
    REAL(FILE *, name);
    enum verdict verdict = GO;
    if (armed && path != NULL && strpbrk(mode, "wa+")) {
        verdict = decide("open", path, 0, syscall(SYS_access, path, F_OK) == 0);
    }
    if (verdict == FAIL) { errno = value; return NULL; }
    FILE *result = real(path, mode);
    if (verdict == THEN_DIE) die();
    return result;
}

FILE *fopen(const char *path, const char *mode) { return open_stream("fopen", path, mode); }
FILE *fopen64(const char *path, const char *mode) { return open_stream("fopen64", path, mode); }
