#pragma once

#include <cstdio>
#include <cstdlib>

/// Stops the process when our own code is wrong. Never for anything that a peer can cause.
#define SALLYPORT_CHECK(condition)                                                                           \
    do {                                                                                                     \
        if (!(condition)) [[unlikely]] {                                                                     \
            std::fprintf(stderr, "%s:%d: check failed: %s\n", __FILE__, __LINE__, #condition);               \
            std::abort();                                                                                    \
        }                                                                                                    \
    } while (false)
