#include "crypto/public_key/multi_buffer.h"

#include <dlfcn.h>

#include <crypto_mb/cpu_features.h>

namespace sallyport::crypto {
namespace {

constexpr const char* kLibrary = "libcrypto_mb.so.11";

template <typename Function>
bool find(void* library, const char* name, Function*& function) noexcept {
    function = reinterpret_cast<Function*>(dlsym(library, name));
    return function != nullptr;
}

/// Empty when it is open; else why it is not.
const char* open(MultiBuffer& functions) noexcept {
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx512ifma")) return "this processor has no AVX-512 IFMA";
    void* const library = dlopen(kLibrary, RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) return "libcrypto_mb.so.11 cannot be opened; the package libcrypto-mb11 has it";
    decltype(&mbx_get_algo_info) width_of = nullptr;
    const auto has = [&](MBX_ALGO algorithm) { return (width_of(algorithm) & MBX_WIDTH_MB8) != 0; };
    const bool complete = find(library, "mbx_get_algo_info", width_of) && has(MBX_ALGO_ECDSA_NIST_P256) && has(MBX_ALGO_RSA_2K) && has(MBX_ALGO_RSA_3K) && has(MBX_ALGO_RSA_4K) &&
           find(library, "mbx_nistp256_ecdsa_sign_mb8", functions.sign_p256) && find(library, "mbx_rsa_private_crt_mb8", functions.rsa_private) &&
           find(library, "mbx_rsa_public_mb8", functions.rsa_public) && find(library, "mbx_RSA_private_crt_Method", functions.rsa_private_method) &&
           find(library, "mbx_RSA_pub65537_Method", functions.rsa_public_method) && find(library, "mbx_RSA_Method_BufSize", functions.rsa_buffer);
    return complete ? "" : "libcrypto_mb.so.11 lacks functions, or refuses this processor";
}

struct Opened {
    MultiBuffer functions{};
    const char* why_not = open(functions);
};

const Opened& opened() noexcept {
    static const Opened once;
    return once;
}

}  // namespace

const MultiBuffer* multi_buffer() noexcept { return *opened().why_not == 0 ? &opened().functions : nullptr; }
const char* why_no_multi_buffer() noexcept { return opened().why_not; }

}  // namespace sallyport::crypto
