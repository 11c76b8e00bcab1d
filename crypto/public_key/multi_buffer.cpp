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

bool open(MultiBuffer& functions) noexcept {
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx512ifma")) return false;
    void* const library = dlopen(kLibrary, RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) return false;
    decltype(&mbx_get_algo_info) width_of = nullptr;
    const auto has = [&](MBX_ALGO algorithm) { return (width_of(algorithm) & MBX_WIDTH_MB8) != 0; };
    return find(library, "mbx_get_algo_info", width_of) && has(MBX_ALGO_ECDSA_NIST_P256) && has(MBX_ALGO_RSA_2K) && has(MBX_ALGO_RSA_3K) && has(MBX_ALGO_RSA_4K) &&
           find(library, "mbx_nistp256_ecdsa_sign_mb8", functions.sign_p256) && find(library, "mbx_rsa_private_crt_mb8", functions.rsa_private) &&
           find(library, "mbx_rsa_public_mb8", functions.rsa_public) && find(library, "mbx_RSA_private_crt_Method", functions.rsa_private_method) &&
           find(library, "mbx_RSA_pub65537_Method", functions.rsa_public_method) && find(library, "mbx_RSA_Method_BufSize", functions.rsa_buffer);
}

}  // namespace

const MultiBuffer* multi_buffer() noexcept {
    static MultiBuffer functions{};
    static const bool opened = open(functions);
    return opened ? &functions : nullptr;
}

}  // namespace sallyport::crypto
