#include "control/handshake/signing_keys.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ecdsa.h>
#include <openssl/params.h>
#include <openssl/rand.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <initializer_list>
#include <new>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "control/handshake/libssl.h"
#include "control/handshake/operation_batch.h"
#include "control/handshake/provider_function.h"
#include "crypto/key_derivation.h"
#include "crypto/public_key/multi_buffer.h"
#include "crypto/secret.h"

// The functions have the signatures of provider-keymgmt(7) and provider-signature(7). All of them return 1 for success and 0 for failure, and none throws: their callers are C.

namespace sallyport::handshake {
namespace {

constexpr const char* kOpenSslsOwn = "provider=default";
/// Our own: an EVP_PKEY* to make a key of.
constexpr const char* kFrom = "sallyport-from";

using Number = openssl::Owner<BIGNUM, BN_clear_free>;
using DigestContext = openssl::Owner<EVP_MD_CTX, EVP_MD_CTX_free>;

/// OpenSSL's own key, which answers all questions, and what its signatures together with others need; nothing of that for a public key alone.
struct SigningKey {
    openssl::PrivateKey own{};
    std::array<std::byte, 32> public_digest{};   ///< of its SubjectPublicKeyInfo (SHA-256), whereby equal keys are found so without arithmetic; zeros: unknown
    std::optional<crypto::P256Scalar> p256{};
    std::optional<crypto::RsaPrivateKey> rsa{};

    SigningKey() = default;
    SigningKey(const SigningKey&) = delete;
    SigningKey& operator=(const SigningKey&) = delete;
    ~SigningKey() {
        if (p256) crypto::wipe(&*p256, sizeof *p256);
    }
};

Number number(const EVP_PKEY* key, const char* name) noexcept {
    BIGNUM* value = nullptr;
    return EVP_PKEY_get_bn_param(key, name, &value) == 1 ? Number(value) : Number();
}

bool take_p256(const EVP_PKEY* key, SigningKey& into) noexcept {
    std::array<char, 32> group{};
    if (EVP_PKEY_get_group_name(key, group.data(), group.size(), nullptr) != 1 || std::string_view(group.data()) != SN_X9_62_prime256v1) return false;
    const Number secret = number(key, OSSL_PKEY_PARAM_PRIV_KEY);
    crypto::P256Octets octets{};
    const bool good = secret && BN_bn2binpad(secret.get(), reinterpret_cast<unsigned char*>(octets.data()), static_cast<int>(octets.size())) == static_cast<int>(octets.size());
    if (good) crypto::to_scalar(octets, into.p256.emplace());
    crypto::wipe(octets.data(), octets.size());
    return good;
}

bool take_rsa(const EVP_PKEY* key, SigningKey& into) {
    static constexpr const char* kNames[] = {OSSL_PKEY_PARAM_RSA_N,         OSSL_PKEY_PARAM_RSA_FACTOR1,   OSSL_PKEY_PARAM_RSA_FACTOR2,
                                             OSSL_PKEY_PARAM_RSA_EXPONENT1, OSSL_PKEY_PARAM_RSA_EXPONENT2, OSSL_PKEY_PARAM_RSA_COEFFICIENT1};
    const Number exponent = number(key, OSSL_PKEY_PARAM_RSA_E);
    if (!exponent || BN_is_word(exponent.get(), RSA_F4) != 1) return false;
    if (number(key, OSSL_PKEY_PARAM_RSA_FACTOR3)) return false;   // more than two primes
    struct Wiped : std::array<std::vector<std::byte>, std::size(kNames)> {
        ~Wiped() {
            for (auto& each : *this) crypto::wipe(each.data(), each.size());
        }
    } octets;
    bool good = true;
    for (std::size_t i = 0; i < octets.size() && good; ++i) {
        const Number value = number(key, kNames[i]);
        good = value != nullptr;
        if (!good) break;
        octets[i].resize(static_cast<std::size_t>(BN_num_bytes(value.get())));
        BN_bn2bin(value.get(), reinterpret_cast<unsigned char*>(octets[i].data()));
    }
    if (good)
        if (auto made = crypto::RsaPrivateKey::make({octets[0], octets[1], octets[2], octets[3], octets[4], octets[5]})) into.rsa.emplace(std::move(*made));
    return into.rsa.has_value();
}

bool take(EVP_PKEY* key, SigningKey& into) {
    ERR_set_mark();
    const bool taken = EVP_PKEY_is_a(key, "EC") == 1 ? take_p256(key, into) : EVP_PKEY_is_a(key, "RSA") == 1 && take_rsa(key, into);
    ERR_pop_to_mark();   // what a key has not got is no error
    return taken;
}

/// Takes on OpenSSL's key.
void own(openssl::PrivateKey key, SigningKey& into) noexcept {
    into.own = std::move(key);
    unsigned char* der = nullptr;
    const int length = i2d_PUBKEY(into.own.get(), &der);
    const std::span octets(der, length > 0 ? static_cast<std::size_t>(length) : 0);
    const crypto::Piece piece = std::as_bytes(octets);
    if (!octets.empty()) static_cast<void>(crypto::digest(crypto::Hash::sha256, {&piece, 1}, into.public_digest));
    OPENSSL_free(der);
}

bool same_digest(const SigningKey& one, const SigningKey& other) noexcept {
    return one.public_digest == other.public_digest && one.public_digest != std::array<std::byte, 32>{};
}

SigningKey& key_of(void* key) noexcept { return *static_cast<SigningKey*>(key); }
const SigningKey& key_of(const void* key) noexcept { return *static_cast<const SigningKey*>(key); }

// ---- key management ----

void* new_key(void*) noexcept { return new (std::nothrow) SigningKey; }
void free_key(void* key) noexcept { delete static_cast<SigningKey*>(key); }

int has_parts(const void* key, int selection) noexcept {
    if (key == nullptr || !key_of(key).own) return 0;
    return (selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY) == 0 || key_of(key).p256 || key_of(key).rsa ? 1 : 0;
}

int match_keys(const void* one, const void* other, int selection) noexcept {
    if (!key_of(one).own || !key_of(other).own) return 0;
    if ((selection & OSSL_KEYMGMT_SELECT_KEYPAIR) == 0) return EVP_PKEY_parameters_eq(key_of(one).own.get(), key_of(other).own.get()) == 1 ? 1 : 0;
    // Asked at every handshake: whether the certificate is that of the key. Equal keys may be encoded in two ways.
    return same_digest(key_of(one), key_of(other)) || EVP_PKEY_eq(key_of(one).own.get(), key_of(other).own.get()) == 1 ? 1 : 0;
}

/// One of OpenSSL's own with its private part, which signing_key() brings; or the public part of another, which is compared with one of ours.
template <const char* const& Type>
int import_key(void* to, int selection, const OSSL_PARAM* params) noexcept try {
    SigningKey& key = key_of(to);
    if (const OSSL_PARAM* const from = OSSL_PARAM_locate_const(params, kFrom)) {
        EVP_PKEY* theirs = nullptr;
        if (from->data_size != sizeof(EVP_PKEY*)) return 0;
        std::memcpy(&theirs, from->data, sizeof theirs);
        if (!take(theirs, key)) return 0;
        own(openssl::share(theirs), key);
        return 1;
    }
    if ((selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY) != 0) return 0;
    const openssl::KeyContext context(EVP_PKEY_CTX_new_from_name(nullptr, Type, kOpenSslsOwn));
    EVP_PKEY* made = nullptr;
    if (!context || EVP_PKEY_fromdata_init(context.get()) != 1 || EVP_PKEY_fromdata(context.get(), &made, EVP_PKEY_PUBLIC_KEY, const_cast<OSSL_PARAM*>(params)) != 1) return 0;
    own(openssl::PrivateKey(made), key);
    return 1;
} catch (const std::bad_alloc&) {
    return 0;
}

const OSSL_PARAM* import_types(int) noexcept {
    // Of a public key: those of EC and RSA; what is not there is left out.
    static const OSSL_PARAM types[] = {OSSL_PARAM_octet_string(kFrom, nullptr, 0),
                                       OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, nullptr, 0),
                                       OSSL_PARAM_octet_string(OSSL_PKEY_PARAM_PUB_KEY, nullptr, 0),
                                       OSSL_PARAM_BN(OSSL_PKEY_PARAM_RSA_N, nullptr, 0),
                                       OSSL_PARAM_BN(OSSL_PKEY_PARAM_RSA_E, nullptr, 0),
                                       OSSL_PARAM_END};
    return types;
}

/// The private part does not leave it.
int export_key(void* from, int selection, OSSL_CALLBACK* take_params, void* argument) noexcept {
    if ((selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY) != 0 || !key_of(from).own) return 0;
    return EVP_PKEY_export(key_of(from).own.get(), EVP_PKEY_PUBLIC_KEY, take_params, argument);
}

int get_key_params(void* from, OSSL_PARAM* params) noexcept { return key_of(from).own ? EVP_PKEY_get_params(key_of(from).own.get(), params) : 0; }

const OSSL_PARAM* gettable_key_params(void*) noexcept {
    static const OSSL_PARAM params[] = {OSSL_PARAM_int(OSSL_PKEY_PARAM_BITS, nullptr), OSSL_PARAM_int(OSSL_PKEY_PARAM_SECURITY_BITS, nullptr), OSSL_PARAM_int(OSSL_PKEY_PARAM_MAX_SIZE, nullptr),
                                        OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, nullptr, 0), OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_DEFAULT_DIGEST, nullptr, 0), OSSL_PARAM_END};
    return params;
}

constexpr const char* kEcdsa = "SALLYPORT-ECDSA";
constexpr const char* kRsa = "SALLYPORT-RSA";

template <const char* const& Name>
const char* name_for(int operation) noexcept {
    return operation == OSSL_OP_SIGNATURE ? Name : nullptr;
}

// ---- signatures ----

struct Signing {
    const SigningKey* key = nullptr;   ///< borrowed of the EVP_PKEY_CTX, which holds its key
    std::string digest{};
    bool pss = false;
};

Signing& signing_of(void* signing) noexcept { return *static_cast<Signing*>(signing); }

void* new_signing(void*, const char*) noexcept { return new (std::nothrow) Signing; }
void free_signing(void* signing) noexcept { delete static_cast<Signing*>(signing); }

int set_signing_params(void* of, const OSSL_PARAM* params) noexcept {
    Signing& signing = signing_of(of);
    if (params == nullptr) return 1;
    if (const OSSL_PARAM* const padding = OSSL_PARAM_locate_const(params, OSSL_SIGNATURE_PARAM_PAD_MODE)) {
        int mode = 0;
        const char* name = nullptr;
        if (padding->data_type != OSSL_PARAM_UTF8_STRING) {   // asked first: a getter for another type leaves an error behind
            if (OSSL_PARAM_get_int(padding, &mode) != 1) return 0;
        } else if (OSSL_PARAM_get_utf8_string_ptr(padding, &name) == 1) {
            mode = OPENSSL_strcasecmp(name, OSSL_PKEY_RSA_PAD_MODE_PSS) == 0 ? RSA_PKCS1_PSS_PADDING : OPENSSL_strcasecmp(name, OSSL_PKEY_RSA_PAD_MODE_PKCSV15) == 0 ? RSA_PKCS1_PADDING : 0;
        }
        if (mode != RSA_PKCS1_PSS_PADDING && mode != RSA_PKCS1_PADDING) return 0;
        signing.pss = mode == RSA_PKCS1_PSS_PADDING;
    }
    if (const OSSL_PARAM* const salt = OSSL_PARAM_locate_const(params, OSSL_SIGNATURE_PARAM_PSS_SALTLEN)) {
        int length = 0;
        const char* name = nullptr;
        const bool like_digest = salt->data_type != OSSL_PARAM_UTF8_STRING
                                     ? OSSL_PARAM_get_int(salt, &length) == 1 && length == RSA_PSS_SALTLEN_DIGEST
                                     : OSSL_PARAM_get_utf8_string_ptr(salt, &name) == 1 && OPENSSL_strcasecmp(name, OSSL_PKEY_RSA_PSS_SALT_LEN_DIGEST) == 0;
        if (!like_digest) return 0;   // nobody in TLS asks for another (RFC 8446 4.2.3)
    }
    return 1;
}

const OSSL_PARAM* settable_signing_params(void*, void*) noexcept {
    static const OSSL_PARAM params[] = {OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_PAD_MODE, nullptr, 0), OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_PSS_SALTLEN, nullptr, 0), OSSL_PARAM_END};
    return params;
}

int begin_signing(void* of, const char* digest, void* key, const OSSL_PARAM* params) noexcept try {
    if (key == nullptr || digest == nullptr || has_parts(key, OSSL_KEYMGMT_SELECT_PRIVATE_KEY) == 0) return 0;
    signing_of(of).key = &key_of(key);
    signing_of(of).digest = digest;
    return set_signing_params(of, params);
} catch (const std::bad_alloc&) {
    return 0;
}

/// By OpenSSL's own.
int sign_alone(const Signing& signing, unsigned char* signature, std::size_t* length, std::span<const unsigned char> message) noexcept {
    const DigestContext context(EVP_MD_CTX_new());
    EVP_PKEY_CTX* settings = nullptr;
    if (!context || EVP_DigestSignInit_ex(context.get(), &settings, signing.digest.c_str(), nullptr, kOpenSslsOwn, signing.key->own.get(), nullptr) != 1) return 0;
    if (signing.pss && (EVP_PKEY_CTX_set_rsa_padding(settings, RSA_PKCS1_PSS_PADDING) != 1 || EVP_PKEY_CTX_set_rsa_pss_saltlen(settings, RSA_PSS_SALTLEN_DIGEST) != 1)) return 0;
    return EVP_DigestSign(context.get(), signature, length, message.data(), message.size()) == 1 ? 1 : 0;
}

/// DER of a signature (RFC 3279 2.2.3); its length, 0 when it cannot be made.
std::size_t encode(const crypto::P256Signature& made, unsigned char* signature, std::size_t room) noexcept {
    const openssl::Owner<ECDSA_SIG, ECDSA_SIG_free> pair(ECDSA_SIG_new());
    const auto number_of = [](const crypto::P256Octets& octets) { return BN_bin2bn(reinterpret_cast<const unsigned char*>(octets.data()), static_cast<int>(octets.size()), nullptr); };
    Number r(number_of(made.r)), s(number_of(made.s));
    if (!pair || !r || !s || ECDSA_SIG_set0(pair.get(), r.get(), s.get()) != 1) return 0;
    static_cast<void>(r.release());
    static_cast<void>(s.release());
    const int length = i2d_ECDSA_SIG(pair.get(), nullptr);
    if (length <= 0 || static_cast<std::size_t>(length) > room) return 0;
    return i2d_ECDSA_SIG(pair.get(), &signature) == length ? static_cast<std::size_t>(length) : 0;
}

std::size_t sign_p256_with_others(const Signing& signing, unsigned char* signature, std::size_t room, std::span<const unsigned char> message) noexcept {
    crypto::P256Signature work;
    work.private_key = &*signing.key->p256;
    unsigned length = 0;
    const openssl::Owner<EVP_MD, EVP_MD_free> digest(EVP_MD_fetch(nullptr, signing.digest.c_str(), nullptr));
    if (!digest || EVP_MD_get_size(digest.get()) != static_cast<int>(work.digest.size()) ||
        EVP_Digest(message.data(), message.size(), reinterpret_cast<unsigned char*>(work.digest.data()), &length, digest.get(), nullptr) != 1)
        return 0;
    return OperationBatch::await(&work) && work.made ? encode(work, signature, room) : 0;
}

/// EMSA-PSS (RFC 8017 9.1.1) with MGF1 and a salt of the digest's length, for a modulus whose highest bit is set.
bool encode_pss(const EVP_MD* digest, std::span<const unsigned char> message, std::span<std::byte> encoded) noexcept {
    const auto length = static_cast<std::size_t>(EVP_MD_get_size(digest));
    if (encoded.size() < 2 * length + 2) return false;
    const auto raw = [](std::span<std::byte> octets) { return reinterpret_cast<unsigned char*>(octets.data()); };
    std::array<std::byte, EVP_MAX_MD_SIZE> message_digest{}, salt{};
    const DigestContext context(EVP_MD_CTX_new());
    const auto hash = [&](std::initializer_list<std::span<const std::byte>> parts, std::byte* to) {
        bool good = context && EVP_DigestInit_ex2(context.get(), digest, nullptr) == 1;
        for (const auto& part : parts) good = good && EVP_DigestUpdate(context.get(), part.data(), part.size()) == 1;
        return good && EVP_DigestFinal_ex(context.get(), reinterpret_cast<unsigned char*>(to), nullptr) == 1;
    };
    constexpr std::array<std::byte, 8> kZeros{};
    const std::span<std::byte> db = encoded.first(encoded.size() - length - 1), h = encoded.subspan(db.size(), length);
    if (RAND_bytes(raw(salt), static_cast<int>(length)) != 1 || !hash({std::as_bytes(message)}, message_digest.data()) ||
        !hash({kZeros, std::span(message_digest).first(length), std::span(salt).first(length)}, h.data()))
        return false;
    // DB = zeros, 0x01, salt, masked with MGF1(H) (RFC 8017 B.2.1).
    std::ranges::fill(db, std::byte{});
    db[db.size() - length - 1] = std::byte{1};
    std::ranges::copy(std::span(salt).first(length), db.end() - static_cast<std::ptrdiff_t>(length));
    std::array<std::byte, EVP_MAX_MD_SIZE> mask{};
    for (std::size_t at = 0, counter = 0; at < db.size(); ++counter) {
        const std::array<std::byte, 4> number{std::byte{}, std::byte{}, static_cast<std::byte>(counter >> 8), static_cast<std::byte>(counter)};
        if (!hash({h, number}, mask.data())) return false;
        for (std::size_t i = 0; i < length && at < db.size(); ++i, ++at) db[at] ^= mask[i];
    }
    db[0] &= std::byte{0x7f};   // one bit less than the modulus has
    encoded.back() = std::byte{0xbc};
    return true;
}

std::size_t sign_rsa_with_others(const Signing& signing, unsigned char* signature, std::size_t room, std::span<const unsigned char> message) noexcept {
    const std::size_t length = signing.key->rsa->length();
    const openssl::Owner<EVP_MD, EVP_MD_free> digest(EVP_MD_fetch(nullptr, signing.digest.c_str(), nullptr));
    std::array<std::byte, 512> encoded{};
    if (!signing.pss || room < length || !digest || !encode_pss(digest.get(), message, std::span(encoded).first(length))) return 0;
    crypto::RsaOperation work{&*signing.key->rsa, std::span(encoded).first(length), std::as_writable_bytes(std::span(signature, length))};
    return OperationBatch::await(&work) && work.done ? length : 0;
}

int sign(void* of, unsigned char* signature, std::size_t* length, std::size_t room, const unsigned char* message, std::size_t message_length) noexcept {
    const Signing& signing = signing_of(of);
    if (signing.key == nullptr) return 0;
    if (signature == nullptr) {
        *length = static_cast<std::size_t>(EVP_PKEY_get_size(signing.key->own.get()));
        return 1;
    }
    const std::span message_octets(message, message_length);
    if (OperationBatch::inside()) {
        const std::size_t made =
            signing.key->p256 ? sign_p256_with_others(signing, signature, room, message_octets) : sign_rsa_with_others(signing, signature, room, message_octets);
        if (made > 0) {
            *length = made;
            return 1;
        }
    }
    *length = room;
    return sign_alone(signing, signature, length, message_octets);
}

constexpr const char* kEc = "EC";
constexpr const char* kRsaKeys = "RSA";

template <const char* const& Type, const char* const& Name>
const OSSL_DISPATCH* keys() noexcept {
    static const OSSL_DISPATCH functions[] = {entry(OSSL_FUNC_KEYMGMT_NEW, new_key),
                                              entry(OSSL_FUNC_KEYMGMT_FREE, free_key),
                                              entry(OSSL_FUNC_KEYMGMT_HAS, has_parts),
                                              entry(OSSL_FUNC_KEYMGMT_MATCH, match_keys),
                                              entry(OSSL_FUNC_KEYMGMT_IMPORT, import_key<Type>),
                                              entry(OSSL_FUNC_KEYMGMT_IMPORT_TYPES, import_types),
                                              entry(OSSL_FUNC_KEYMGMT_EXPORT, export_key),
                                              entry(OSSL_FUNC_KEYMGMT_EXPORT_TYPES, import_types),
                                              entry(OSSL_FUNC_KEYMGMT_GET_PARAMS, get_key_params),
                                              entry(OSSL_FUNC_KEYMGMT_GETTABLE_PARAMS, gettable_key_params),
                                              entry(OSSL_FUNC_KEYMGMT_QUERY_OPERATION_NAME, name_for<Name>),
                                              OSSL_DISPATCH_END};
    return functions;
}

}  // namespace

const OSSL_ALGORITHM* signing_key_management() noexcept {
    // Never taken for an EC or RSA key that nobody has asked for by this property: key_provider.cpp prefers those without.
    static const char* const kProperties = "provider=sallyport,sallyport.signing=yes";
    static const OSSL_ALGORITHM all[] = {{"EC:id-ecPublicKey:1.2.840.10045.2.1", kProperties, keys<kEc, kEcdsa>(), "P-256 keys that sign together"},
                                         {"RSA:rsaEncryption:1.2.840.113549.1.1.1", kProperties, keys<kRsaKeys, kRsa>(), "RSA keys that sign together"},
                                         {nullptr, nullptr, nullptr, nullptr}};
    return all;
}

const OSSL_ALGORITHM* signatures() noexcept {
    static const OSSL_DISPATCH functions[] = {entry(OSSL_FUNC_SIGNATURE_NEWCTX, new_signing),
                                              entry(OSSL_FUNC_SIGNATURE_FREECTX, free_signing),
                                              entry(OSSL_FUNC_SIGNATURE_DIGEST_SIGN_INIT, begin_signing),
                                              entry(OSSL_FUNC_SIGNATURE_DIGEST_SIGN, sign),
                                              entry(OSSL_FUNC_SIGNATURE_SET_CTX_PARAMS, set_signing_params),
                                              entry(OSSL_FUNC_SIGNATURE_SETTABLE_CTX_PARAMS, settable_signing_params),
                                              OSSL_DISPATCH_END};
    static const OSSL_ALGORITHM all[] = {{kEcdsa, "provider=sallyport", functions, "ECDSA on P-256, together with others'"},
                                         {kRsa, "provider=sallyport", functions, "RSASSA-PSS, together with others'"},
                                         {nullptr, nullptr, nullptr, nullptr}};
    return all;
}

openssl::PrivateKey signing_key(EVP_PKEY* key) {
    const bool ec = EVP_PKEY_is_a(key, kEc) == 1;
    if (crypto::multi_buffer() == nullptr || (!ec && EVP_PKEY_is_a(key, kRsaKeys) != 1)) return openssl::share(key);
    ERR_set_mark();
    const openssl::KeyContext context(EVP_PKEY_CTX_new_from_name(nullptr, ec ? kEc : kRsaKeys, "provider=sallyport"));
    OSSL_PARAM params[] = {OSSL_PARAM_construct_octet_string(kFrom, &key, sizeof key), OSSL_PARAM_construct_end()};
    EVP_PKEY* made = nullptr;
    const bool done = context && EVP_PKEY_fromdata_init(context.get()) == 1 && EVP_PKEY_fromdata(context.get(), &made, EVP_PKEY_KEYPAIR, params) == 1;
    ERR_pop_to_mark();   // another curve or length
    return done ? openssl::PrivateKey(made) : openssl::share(key);
}

}  // namespace sallyport::handshake
