#include "control/handshake/random_source.h"

#include <openssl/core_dispatch.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <openssl/rand.h>
#include <pthread.h>

#include <atomic>
#include <mutex>
#include <new>

#include "control/handshake/libssl.h"
#include "control/handshake/provider_function.h"

// The functions have the signatures of provider-rand(7). All of them return 1 for success and 0 for failure, and none throws: their callers are C.

namespace sallyport::handshake {
namespace {

constexpr unsigned kStrength = 256;             ///< bits, of AES-256
constexpr std::size_t kLongestRequest = 1 << 16;   ///< octets, of the CTR-DRBG (SP 800-90A table 3: 2^19 bits)

/// How often this process is a fork of another: a child has its parent's octets, and may not use them.
std::atomic<std::uint32_t> forks{0};   // NOLINT: a fork is the process's

/// OpenSSL has one of each kind for each thread, and one for the process, which it locks.
struct Source {
    openssl::Owner<EVP_RAND_CTX, EVP_RAND_CTX_free> generator{};
    OctetsAhead ahead{};
    std::uint32_t forks_seen = forks.load(std::memory_order_relaxed);
    std::mutex mutex{};
    bool is_locked = false;   ///< by enable_locking: others than its thread may come
};

Source& source_of(void* source) noexcept { return *static_cast<Source*>(source); }

/// Seeded by the system itself, not by a parent: nothing is shared with another thread.
void* new_source(void*, void*, const OSSL_DISPATCH*) noexcept {
    using Kind = openssl::Owner<EVP_RAND, EVP_RAND_free>;
    const Kind kind(EVP_RAND_fetch(nullptr, "CTR-DRBG", "provider=default"));
    auto* const source = kind ? new (std::nothrow) Source : nullptr;
    if (source == nullptr) return nullptr;
    source->generator.reset(EVP_RAND_CTX_new(kind.get(), nullptr));
    if (source->generator) return source;
    delete source;
    return nullptr;
}

void free_source(void* source) noexcept { delete static_cast<Source*>(source); }

int instantiate(void* of, unsigned strength, int prediction_resistance, const unsigned char* personalization, std::size_t length, const OSSL_PARAM*) noexcept {
    char cipher[] = "AES-256-CTR";
    const OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_string(OSSL_DRBG_PARAM_CIPHER, cipher, 0), OSSL_PARAM_construct_end()};
    source_of(of).ahead.drop();
    return EVP_RAND_instantiate(source_of(of).generator.get(), strength, prediction_resistance, personalization, length, params);
}

int uninstantiate(void* of) noexcept {
    source_of(of).ahead.drop();
    return EVP_RAND_uninstantiate(source_of(of).generator.get());
}

int generate(void* of, unsigned char* out, std::size_t length, unsigned strength, int prediction_resistance, const unsigned char* more, std::size_t more_length) noexcept {
    Source& source = source_of(of);
    if (prediction_resistance != 0 || more_length != 0 || strength > kStrength || length > OctetsAhead::kLongestFromAhead)
        return EVP_RAND_generate(source.generator.get(), out, length, strength, prediction_resistance, more, more_length);
    if (const auto now = forks.load(std::memory_order_relaxed); now != source.forks_seen) {
        source.ahead.drop();
        source.forks_seen = now;
    }
    return source.ahead.take({out, length},
                             [&](std::span<unsigned char> octets) { return EVP_RAND_generate(source.generator.get(), octets.data(), octets.size(), kStrength, 0, nullptr, 0) == 1; })
               ? 1
               : 0;
}

int reseed(void* of, int prediction_resistance, const unsigned char* entropy, std::size_t length, const unsigned char* more, std::size_t more_length) noexcept {
    source_of(of).ahead.drop();
    return EVP_RAND_reseed(source_of(of).generator.get(), prediction_resistance, entropy, length, more, more_length);
}

int enable_locking(void* of) noexcept {
    source_of(of).is_locked = true;
    return 1;
}

int lock(void* of) noexcept {
    if (source_of(of).is_locked) source_of(of).mutex.lock();
    return 1;
}

void unlock(void* of) noexcept {
    if (source_of(of).is_locked) source_of(of).mutex.unlock();
}

int get_params(void* of, OSSL_PARAM* params) noexcept {
    OSSL_PARAM* const state = OSSL_PARAM_locate(params, OSSL_RAND_PARAM_STATE);
    OSSL_PARAM* const strength = OSSL_PARAM_locate(params, OSSL_RAND_PARAM_STRENGTH);
    OSSL_PARAM* const longest = OSSL_PARAM_locate(params, OSSL_RAND_PARAM_MAX_REQUEST);
    return (state == nullptr || OSSL_PARAM_set_int(state, EVP_RAND_get_state(source_of(of).generator.get())) == 1) &&
                   (strength == nullptr || OSSL_PARAM_set_uint(strength, kStrength) == 1) && (longest == nullptr || OSSL_PARAM_set_size_t(longest, kLongestRequest) == 1)
               ? 1
               : 0;
}

const OSSL_PARAM* gettable_params(void*, void*) noexcept {
    static const OSSL_PARAM params[] = {OSSL_PARAM_int(OSSL_RAND_PARAM_STATE, nullptr), OSSL_PARAM_uint(OSSL_RAND_PARAM_STRENGTH, nullptr), OSSL_PARAM_size_t(OSSL_RAND_PARAM_MAX_REQUEST, nullptr),
                                        OSSL_PARAM_END};
    return params;
}

}  // namespace

const OSSL_ALGORITHM* random_sources() noexcept {
    static const OSSL_DISPATCH functions[] = {entry(OSSL_FUNC_RAND_NEWCTX, new_source),
                                              entry(OSSL_FUNC_RAND_FREECTX, free_source),
                                              entry(OSSL_FUNC_RAND_INSTANTIATE, instantiate),
                                              entry(OSSL_FUNC_RAND_UNINSTANTIATE, uninstantiate),
                                              entry(OSSL_FUNC_RAND_GENERATE, generate),
                                              entry(OSSL_FUNC_RAND_RESEED, reseed),
                                              entry(OSSL_FUNC_RAND_ENABLE_LOCKING, enable_locking),
                                              entry(OSSL_FUNC_RAND_LOCK, lock),
                                              entry(OSSL_FUNC_RAND_UNLOCK, unlock),
                                              entry(OSSL_FUNC_RAND_GET_CTX_PARAMS, get_params),
                                              entry(OSSL_FUNC_RAND_GETTABLE_CTX_PARAMS, gettable_params),
                                              OSSL_DISPATCH_END};
    static const OSSL_ALGORITHM all[] = {{kRandomSource, "provider=sallyport", functions, "CTR-DRBG with octets made ahead"}, {nullptr, nullptr, nullptr, nullptr}};
    return all;
}

bool use_random_source() noexcept {
    return pthread_atfork(nullptr, nullptr, [] { forks.fetch_add(1, std::memory_order_relaxed); }) == 0 && RAND_set_DRBG_type(nullptr, kRandomSource, nullptr, nullptr, nullptr) == 1;
}

}  // namespace sallyport::handshake
