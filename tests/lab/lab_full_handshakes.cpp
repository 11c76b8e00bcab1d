// Preloaded into wrk, which begins each connection by SSL_clear() and so offers the session of the one before: here it is forgotten, and each
// handshake is a full one.
//
//     LD_PRELOAD=lab_full_handshakes.so wrk ...
//
// The names are looked up and not linked: wrk's libssl is another version than ours.

#include <dlfcn.h>

#include <cstdlib>

namespace {

template <typename Function>
Function next(const char* name) {
    void* const found = dlsym(RTLD_NEXT, name);
    if (found == nullptr) std::abort();
    return reinterpret_cast<Function>(found);
}

}  // namespace

extern "C" __attribute__((visibility("default"))) int SSL_clear(void* ssl) {
    static const auto clear = next<int (*)(void*)>("SSL_clear");
    static const auto set_session = next<int (*)(void*, void*)>("SSL_set_session");
    return clear(ssl) == 1 ? set_session(ssl, nullptr) : 0;
}
