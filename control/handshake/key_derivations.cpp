#include "control/handshake/key_derivations.h"

#include <openssl/core_dispatch.h>
#include <openssl/core_names.h>
#include <openssl/kdf.h>
#include <openssl/params.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <new>
#include <optional>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "control/handshake/provider_function.h"
#include "crypto/key_derivation.h"
#include "crypto/secret.h"

// The functions have the signatures of provider-kdf(7), which says what each is to do. All return 1 for success and 0 for failure, and none throws: their callers are C.

namespace sallyport::handshake {
namespace {

using crypto::Hash;
using crypto::Piece;

constexpr std::size_t kMostSeeds = 8;   ///< libssl gives five at most

/// What a derivation is made from. Borrowed: of the parameters of one call, or of what a Derivation keeps.
struct Inputs {
    std::optional<Hash> hash;
    int mode = 0;                                 ///< EVP_KDF_HKDF_MODE_…, of TLS13-KDF alone
    std::optional<Piece> key, salt, secret;       ///< the first two of TLS13-KDF, the third of TLS1-PRF
    Piece prefix, label, data;
    std::array<Piece, kMostSeeds> seeds;
    std::size_t seed_count = 0;
};

std::string_view text(Piece octets) noexcept { return {reinterpret_cast<const char*>(octets.data()), octets.size()}; }

std::optional<Hash> hash_named(const char* name) noexcept {
    for (const char* const each : {"SHA2-256", "SHA-256", "SHA256"})
        if (OPENSSL_strcasecmp(name, each) == 0) return Hash::sha256;
    for (const char* const each : {"SHA2-384", "SHA-384", "SHA384"})
        if (OPENSSL_strcasecmp(name, each) == 0) return Hash::sha384;
    return std::nullopt;
}

std::optional<int> mode_of(const OSSL_PARAM& param) noexcept {
    int mode = 0;
    if (OSSL_PARAM_get_int(&param, &mode) == 1) return mode;
    const char* name = nullptr;
    if (OSSL_PARAM_get_utf8_string_ptr(&param, &name) != 1) return std::nullopt;
    if (OPENSSL_strcasecmp(name, "EXTRACT_ONLY") == 0) return EVP_KDF_HKDF_MODE_EXTRACT_ONLY;
    if (OPENSSL_strcasecmp(name, "EXPAND_ONLY") == 0) return EVP_KDF_HKDF_MODE_EXPAND_ONLY;
    return std::nullopt;
}

/// Takes in what `params` say, those of another kind of derivation included; what nobody knows is not looked at, as OpenSSL has it.
bool read(const OSSL_PARAM* params, Inputs& inputs) noexcept {
    bool seeds_anew = true;
    for (; params != nullptr && params->key != nullptr; ++params) {
        const std::string_view name(params->key);
        const auto octets = [params](auto& to) {
            if (params->data_type != OSSL_PARAM_OCTET_STRING) return false;
            to = Piece(static_cast<const std::byte*>(params->data), params->data_size);
            return true;
        };
        bool good = true;
        if (name == OSSL_KDF_PARAM_DIGEST) {
            const char* digest = nullptr;
            good = OSSL_PARAM_get_utf8_string_ptr(params, &digest) == 1 && (inputs.hash = hash_named(digest)).has_value();
        } else if (name == OSSL_KDF_PARAM_MODE) {
            const std::optional<int> mode = mode_of(*params);
            good = mode.has_value();
            inputs.mode = mode.value_or(0);
        } else if (name == OSSL_KDF_PARAM_KEY) {
            good = octets(inputs.key);
        } else if (name == OSSL_KDF_PARAM_SALT) {
            good = octets(inputs.salt);
        } else if (name == OSSL_KDF_PARAM_SECRET) {
            good = octets(inputs.secret);
        } else if (name == OSSL_KDF_PARAM_PREFIX) {
            good = octets(inputs.prefix);
        } else if (name == OSSL_KDF_PARAM_LABEL) {
            good = octets(inputs.label);
        } else if (name == OSSL_KDF_PARAM_DATA) {
            good = octets(inputs.data);
        } else if (name == OSSL_KDF_PARAM_SEED) {
            if (std::exchange(seeds_anew, false)) inputs.seed_count = 0;
            good = inputs.seed_count < kMostSeeds && octets(inputs.seeds[inputs.seed_count]);
            if (good) ++inputs.seed_count;
        }
        if (!good) return false;
    }
    return true;
}

/// A copy of octets, wiped when it goes.
struct Copy {
    explicit Copy(Piece from) : octets(from.begin(), from.end()) {}
    Copy(Copy&&) noexcept = default;
    Copy& operator=(Copy&&) noexcept = delete;
    ~Copy() { crypto::wipe(octets.data(), octets.size()); }
    std::vector<std::byte> octets;
};

/// What was set for later calls, in copies of its own. Used by one thread at a time, as OpenSSL demands of its users.
class Derivation {
 public:
    Derivation() = default;
    Derivation(const Derivation& other) { keep(other.inputs_); }
    Derivation& operator=(const Derivation&) = delete;

    [[nodiscard]] const Inputs& inputs() const noexcept { return inputs_; }
    /// May throw std::bad_alloc; what was set before is then as it was.
    void keep(Inputs inputs) {
        std::vector<Copy> kept;
        const auto own = [&kept](Piece& piece) { piece = kept.emplace_back(piece).octets; };
        for (auto* const piece : {&inputs.key, &inputs.salt, &inputs.secret})
            if (*piece) own(**piece);
        for (Piece* const piece : {&inputs.prefix, &inputs.label, &inputs.data}) own(*piece);
        for (Piece& piece : std::span(inputs.seeds).first(inputs.seed_count)) own(piece);
        kept_ = std::move(kept);
        inputs_ = inputs;
    }
    void forget() noexcept {
        kept_.clear();
        inputs_ = {};
    }

 private:
    std::vector<Copy> kept_;   ///< what inputs_ borrows
    Inputs inputs_;
};

Derivation& derivation_of(void* derivation) noexcept { return *static_cast<Derivation*>(derivation); }

void* new_derivation(void*) noexcept { return new (std::nothrow) Derivation; }
void free_derivation(void* derivation) noexcept { delete static_cast<Derivation*>(derivation); }
void reset(void* derivation) noexcept { derivation_of(derivation).forget(); }

void* copy_derivation(void* derivation) noexcept {
    try {
        return new Derivation(derivation_of(derivation));
    } catch (const std::bad_alloc&) {
        return nullptr;
    }
}

int set_params(void* derivation, const OSSL_PARAM* params) noexcept {
    Inputs inputs = derivation_of(derivation).inputs();
    if (!read(params, inputs)) return 0;
    try {
        derivation_of(derivation).keep(inputs);
        return 1;
    } catch (const std::bad_alloc&) {
        return 0;
    }
}

/// HKDF-Extract(salt, key) (RFC 5869 2.2), the salt being Derive-Secret(salt, label, "") of the secret before (RFC 8446 7.1); without a key, or a salt, that of zeros.
bool extract(const Inputs& inputs, std::span<std::byte> out) noexcept {
    const std::size_t length = crypto::hash_length(*inputs.hash);
    static constexpr std::array<std::byte, crypto::kMaxHashLength> kZeros{};
    const Piece key = inputs.key.value_or(std::span(kZeros).first(length));
    if (!inputs.salt) return crypto::hmac(*inputs.hash, {}, {&key, 1}, out);
    std::array<std::byte, crypto::kMaxHashLength> nothing{}, derived{};
    const std::span salt = std::span(derived).first(length), hash_of_nothing = std::span(nothing).first(length);
    const bool done = crypto::digest(*inputs.hash, {}, hash_of_nothing) &&
                      crypto::hkdf_expand_label(*inputs.hash, *inputs.salt, text(inputs.prefix), text(inputs.label), hash_of_nothing, salt) &&
                      crypto::hmac(*inputs.hash, salt, {&key, 1}, out);
    crypto::wipe(derived.data(), derived.size());
    return done;
}

thread_local crypto::TrafficSecret resumption_master_secret;

bool expand(const Inputs& inputs, std::span<std::byte> out) noexcept {
    constexpr std::string_view kLabel = "res master";
    const std::string_view label = text(inputs.label);
    if (!crypto::hkdf_expand_label(*inputs.hash, *inputs.key, text(inputs.prefix), label, inputs.data, out)) return false;
    if (label == kLabel && out.size() <= crypto::kMaxHashLength) resumption_master_secret.assign(out);
    return true;
}

bool tls13_kdf(const Inputs& inputs, std::span<std::byte> out) noexcept {
    constexpr std::size_t kMost = 255;   // a HkdfLabel's, and the counter's
    const std::size_t length = crypto::hash_length(*inputs.hash);
    if (inputs.prefix.size() + inputs.label.size() > kMost || inputs.data.size() > kMost) return false;
    switch (inputs.mode) {
        case EVP_KDF_HKDF_MODE_EXTRACT_ONLY: return out.size() == length && extract(inputs, out);
        case EVP_KDF_HKDF_MODE_EXPAND_ONLY:
            return inputs.key && !inputs.key->empty() && out.size() <= kMost * length && expand(inputs, out);
        default: return false;
    }
}

bool tls1_prf(const Inputs& inputs, std::span<std::byte> out) noexcept {
    return inputs.secret && inputs.seed_count > 0 && crypto::tls12_prf(*inputs.hash, *inputs.secret, std::span(inputs.seeds).first(inputs.seed_count), out);
}

template <bool (&Derive)(const Inputs&, std::span<std::byte>) noexcept>
int derive(void* derivation, unsigned char* out, std::size_t length, const OSSL_PARAM* params) noexcept {
    // What libssl says it says here, each time: it is used where it lies. Nobody else derives from this before we are done.
    Inputs inputs = derivation_of(derivation).inputs();
    return read(params, inputs) && inputs.hash && length > 0 && Derive(inputs, std::as_writable_bytes(std::span(out, length))) ? 1 : 0;
}

const OSSL_PARAM* settable_params(void*, void*) noexcept {
    static const OSSL_PARAM params[] = {OSSL_PARAM_utf8_string(OSSL_KDF_PARAM_DIGEST, nullptr, 0),  OSSL_PARAM_int(OSSL_KDF_PARAM_MODE, nullptr),
                                        OSSL_PARAM_octet_string(OSSL_KDF_PARAM_KEY, nullptr, 0),    OSSL_PARAM_octet_string(OSSL_KDF_PARAM_SALT, nullptr, 0),
                                        OSSL_PARAM_octet_string(OSSL_KDF_PARAM_SECRET, nullptr, 0), OSSL_PARAM_octet_string(OSSL_KDF_PARAM_PREFIX, nullptr, 0),
                                        OSSL_PARAM_octet_string(OSSL_KDF_PARAM_LABEL, nullptr, 0),  OSSL_PARAM_octet_string(OSSL_KDF_PARAM_DATA, nullptr, 0),
                                        OSSL_PARAM_octet_string(OSSL_KDF_PARAM_SEED, nullptr, 0),   OSSL_PARAM_END};
    return params;
}

/// How much can be derived at once.
int get_params(void* derivation, OSSL_PARAM* params) noexcept {
    OSSL_PARAM* const size = OSSL_PARAM_locate(params, OSSL_KDF_PARAM_SIZE);
    if (size == nullptr) return 1;
    const Inputs& inputs = derivation_of(derivation).inputs();
    const bool extracts = inputs.mode == EVP_KDF_HKDF_MODE_EXTRACT_ONLY;
    if (extracts && !inputs.hash) return 0;
    return OSSL_PARAM_set_size_t(size, extracts ? crypto::hash_length(*inputs.hash) : SIZE_MAX);
}

const OSSL_PARAM* gettable_params(void*, void*) noexcept {
    static const OSSL_PARAM params[] = {OSSL_PARAM_size_t(OSSL_KDF_PARAM_SIZE, nullptr), OSSL_PARAM_END};
    return params;
}

template <bool (&Derive)(const Inputs&, std::span<std::byte>) noexcept>
const OSSL_DISPATCH* functions() noexcept {
    static const OSSL_DISPATCH all[] = {entry(OSSL_FUNC_KDF_NEWCTX, new_derivation),
                                        entry(OSSL_FUNC_KDF_DUPCTX, copy_derivation),
                                        entry(OSSL_FUNC_KDF_FREECTX, free_derivation),
                                        entry(OSSL_FUNC_KDF_RESET, reset),
                                        entry(OSSL_FUNC_KDF_DERIVE, derive<Derive>),
                                        entry(OSSL_FUNC_KDF_SET_CTX_PARAMS, set_params),
                                        entry(OSSL_FUNC_KDF_SETTABLE_CTX_PARAMS, settable_params),
                                        entry(OSSL_FUNC_KDF_GET_CTX_PARAMS, get_params),
                                        entry(OSSL_FUNC_KDF_GETTABLE_CTX_PARAMS, gettable_params),
                                        OSSL_DISPATCH_END};
    return all;
}

}  // namespace

crypto::TrafficSecret take_resumption_master_secret() noexcept {
    crypto::TrafficSecret taken = resumption_master_secret;
    resumption_master_secret.clear();
    return taken;
}

const OSSL_ALGORITHM* key_derivations() noexcept {
    static const char* const kProperties = "provider=sallyport,sallyport.fast=yes";
    static const OSSL_ALGORITHM all[] = {{"TLS13-KDF", kProperties, functions<tls13_kdf>(), "the key schedule of TLS 1.3"},
                                         {"TLS1-PRF", kProperties, functions<tls1_prf>(), "the PRF of TLS 1.2"},
                                         {nullptr, nullptr, nullptr, nullptr}};
    return all;
}

}  // namespace sallyport::handshake
