/* What the compiled kernels share. They are plain C99 without Python's headers, and are called by ctypes.

   Each function runs on one thread, and adds numbers in one order for all processors (no fused or reordered sums), so
   that a result does not depend on the machine. All images are float32, row by row, without gaps. */

#ifndef SFM_LIGHTGLUE_KERNELS_H
#define SFM_LIGHTGLUE_KERNELS_H

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(_WIN32)
#define EXPORT __declspec(dllexport)
#else
#define EXPORT __attribute__((visibility("default")))
#endif

#if defined(_MSC_VER)
#define restrict __restrict
#endif

/* Loops that are compiled for several processors; the dynamic linker chooses at load time. */
#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__) && !defined(ONE_TARGET)
#if __GNUC__ >= 12
#define HOT __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#endif
#endif
#ifndef HOT
#define HOT
#endif

#if defined(_MSC_VER)
#define INLINE static __forceinline
#else
#define INLINE static inline __attribute__((always_inline))
#endif

#define LANES 16 /* partial sums of a dot product */

#endif
