#pragma once

/// Whether this build has AddressSanitizer or ThreadSanitizer, as gcc and clang say it: SALLYPORT_ASAN and SALLYPORT_TSAN are 0 or 1.

#if defined(__has_feature)
#define SALLYPORT_HAS_FEATURE(name) __has_feature(name)
#else
#define SALLYPORT_HAS_FEATURE(name) 0
#endif

#if defined(__SANITIZE_ADDRESS__) || SALLYPORT_HAS_FEATURE(address_sanitizer)
#define SALLYPORT_ASAN 1
#else
#define SALLYPORT_ASAN 0
#endif

#if defined(__SANITIZE_THREAD__) || SALLYPORT_HAS_FEATURE(thread_sanitizer)
#define SALLYPORT_TSAN 1
#else
#define SALLYPORT_TSAN 0
#endif
