#include "crypto/public_key/x25519.h"

#include <algorithm>
#include <utility>

extern "C" {
#include <lib25519.h>
}
#include <openssl/rand.h>

#include "crypto/public_key/multi_buffer.h"
#include "crypto/secret.h"

namespace sallyport::crypto {
namespace {

unsigned char* raw(X25519Octets* octets) noexcept { return reinterpret_cast<unsigned char*>(octets->data()); }
const unsigned char* raw(const X25519Octets* octets) noexcept { return reinterpret_cast<const unsigned char*>(octets->data()); }

bool make_private(X25519Octets* keys, std::size_t count) noexcept {
    return RAND_priv_bytes(raw(keys), static_cast<int>(count * kX25519Length)) == 1;
}

/// Keys that a thread has made ahead.
class Stock {
 public:
    Stock() noexcept = default;
    ~Stock() { wipe(private_, sizeof private_); }
    Stock(const Stock&) = delete;
    Stock& operator=(const Stock&) = delete;

    [[nodiscard]] bool take(const MultiBuffer& library, X25519Octets& private_key, X25519Octets& public_key) noexcept {
        if (left_ == 0 && !fill(library)) return false;
        --left_;
        private_key = private_[left_];
        public_key = public_[left_];
        wipe(&private_[left_], sizeof private_[left_]);
        return true;
    }

 private:
    bool fill(const MultiBuffer& library) noexcept {
        if (!make_private(private_, kMultiBufferLanes)) return false;
        int8u* to[kMultiBufferLanes];
        const int8u* from[kMultiBufferLanes];
        for (std::size_t i = 0; i < kMultiBufferLanes; ++i) {
            to[i] = raw(&public_[i]);
            from[i] = raw(&private_[i]);
        }
        if (library.x25519_public_key(to, from) != MBX_STATUS_OK)
            for (std::size_t i = 0; i < kMultiBufferLanes; ++i) public_[i] = x25519_public_key(private_[i]);
        left_ = kMultiBufferLanes;
        return true;
    }

    X25519Octets private_[kMultiBufferLanes], public_[kMultiBufferLanes];
    std::size_t left_ = 0;
};

/// Whether the library may be given this peer's key: it (Crypto Multi-Buffer 2021.12.1) computes something else where the coordinate is just below 2^255, all of its upper 120 bits or so being
/// ones. No key that was made at random is among those with 63.
bool is_for_library(const X25519Octets& peer) noexcept {
    constexpr std::size_t kUpper = 8;
    constexpr std::byte kIgnored{0x80};   // RFC 7748 5
    return !std::all_of(peer.end() - kUpper, peer.end() - 1, [](std::byte octet) { return octet == std::byte{0xff}; }) || (peer.back() | kIgnored) != std::byte{0xff};
}

/// False: that is not for the library, or it refuses.
bool agree_together(const MultiBuffer& library, std::span<X25519Octets> shared, const X25519Octets* own, const X25519Octets* peers) noexcept {
    static_assert(X25519Agreement::kMost == kMultiBufferLanes);
    if (!std::all_of(peers, peers + shared.size(), is_for_library)) return false;
    int8u* to[kMultiBufferLanes]{};
    const int8u *own_keys[kMultiBufferLanes]{}, *peer_keys[kMultiBufferLanes]{};
    X25519Octets unused;
    for (std::size_t i = 0; i < kMultiBufferLanes; ++i) {
        const bool used = i < shared.size();
        to[i] = used ? raw(&shared[i]) : raw(&unused);   // a lane without one does the first one's work again
        own_keys[i] = raw(&own[used ? i : 0]);
        peer_keys[i] = raw(&peers[used ? i : 0]);
    }
    const mbx_status status = library.x25519(to, own_keys, peer_keys);
    wipe(&unused, sizeof unused);
    bool done = true;
    for (std::size_t i = 0; i < shared.size(); ++i) {
        const int each = MBX_GET_STS(status, static_cast<int>(i));
        if (each == MBX_STATUS_LOW_ORDER_ERR) shared[i] = {};   // which says it to who asked
        else if (each != MBX_STATUS_OK) done = false;
    }
    return done;
}

}  // namespace

bool make_x25519_key(X25519Octets& private_key, X25519Octets& public_key) noexcept {
    thread_local Stock stock;
    const MultiBuffer* const library = multi_buffer();
    const bool made = library != nullptr ? stock.take(*library, private_key, public_key) : make_private(&private_key, 1);
    if (!made)
        private_key = public_key = {};
    else if (library == nullptr)
        public_key = x25519_public_key(private_key);
    return made;
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
    const MultiBuffer* const library = multi_buffer();
    if (library == nullptr || agreements.size() == 1 || !agree_together(*library, std::span(shared).first(agreements.size()), own, peers)) {
        // It takes four in the time of two, and three in that of three.
        const std::size_t count = agreements.size() % 4 == 3 ? agreements.size() + 1 : agreements.size();
        if (count > agreements.size()) {
            own[count - 1] = own[0];
            peers[count - 1] = peers[0];
        }
        lib25519_nPbatch_montgomery25519(raw(shared), raw(own), raw(peers), static_cast<long long>(count));
    }
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
