#include "crypto/public_key/x25519.h"

#include <algorithm>

extern "C" {
#include <lib25519.h>
}
#include <openssl/rand.h>

#include "crypto/secret.h"

namespace sallyport::crypto {
namespace {

unsigned char* raw(X25519Octets* octets) noexcept { return reinterpret_cast<unsigned char*>(octets->data()); }
const unsigned char* raw(const X25519Octets* octets) noexcept { return reinterpret_cast<const unsigned char*>(octets->data()); }

}  // namespace

bool make_x25519_key(X25519Octets& private_key, X25519Octets& public_key) noexcept {
    if (RAND_priv_bytes(raw(&private_key), static_cast<int>(private_key.size())) != 1) {
        private_key = public_key = {};
        return false;
    }
    public_key = x25519_public_key(private_key);
    return true;
}

X25519Octets x25519_public_key(const X25519Octets& private_key) noexcept {
    X25519Octets public_key;
    lib25519_nG_montgomery25519(raw(&public_key), raw(&private_key));
    return public_key;
}

void agree_x25519(std::span<X25519Agreement> agreements) noexcept {
    SALLYPORT_CHECK(!agreements.empty() && agreements.size() <= X25519Agreement::kMost);
    static_assert(sizeof(X25519Octets[2]) == 2 * kX25519Length);   // one behind the other
    X25519Octets own[X25519Agreement::kMost], peers[X25519Agreement::kMost], shared[X25519Agreement::kMost];
    for (std::size_t i = 0; i < agreements.size(); ++i) {
        own[i] = *agreements[i].private_key;
        peers[i] = *agreements[i].peer;
    }
    // Four are one; three are three, unless the first is worked out once more.
    constexpr std::size_t kTogether = 4;
    std::size_t count = agreements.size();
    if (count % kTogether == kTogether - 1) {
        own[count] = own[0];
        peers[count++] = peers[0];
    }
    lib25519_nPbatch_montgomery25519(raw(shared), raw(own), raw(peers), static_cast<long long>(count));
    for (std::size_t i = 0; i < agreements.size(); ++i) {
        // All octets are looked at, whatever they are (RFC 7748 6.1).
        std::byte any{};
        for (const std::byte octet : shared[i]) any |= octet;
        agreements[i].shared = shared[i];
        agreements[i].agreed = any != std::byte{};
    }
    wipe(own, sizeof own);
    wipe(shared, sizeof shared);
}

}  // namespace sallyport::crypto
