#pragma once

#include <openssl/core.h>

namespace sallyport::handshake {

/// One function of a provider, as OpenSSL's tables have it; its id says what signature it has.
template <typename Function>
[[nodiscard]] OSSL_DISPATCH entry(int id, Function* function) noexcept {
    return {id, reinterpret_cast<void (*)()>(function)};
}

}  // namespace sallyport::handshake
