/* Tells of which sources a library was made. */

#include "kernels.h"

#ifndef SOURCE_DIGEST
#define SOURCE_DIGEST ""
#endif

EXPORT const char *source_digest(void) { return SOURCE_DIGEST; }
