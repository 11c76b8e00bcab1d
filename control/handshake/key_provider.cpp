#include "control/handshake/key_provider.h"

#include <openssl/core.h>
#include <openssl/core_dispatch.h>
#include <openssl/core_names.h>
#include <openssl/params.h>
#include <openssl/provider.h>

#include <algorithm>
#include <cstring>
#include <new>
#include <stdexcept>

#include "control/handshake/key_derivations.h"
#include "control/handshake/libssl.h"
#include "control/handshake/operation_batch.h"
#include "control/handshake/provider_function.h"
#include "control/handshake/random_source.h"
#include "control/handshake/signing_keys.h"
#include "crypto/format.h"
#include "crypto/public_key/multi_buffer.h"
#include "crypto/public_key/x25519.h"
#include "crypto/secret.h"

// The functions have the signatures of provider-keymgmt(7) and provider-keyexch(7), which say what each is to do. All of them return 1 for success and 0 for failure, and none
// throws: their callers are C.

namespace sallyport::handshake {
namespace {

using crypto::kX25519Length;
using crypto::X25519Octets;

constexpr const char* kProvider = "sallyport";
/// X25519 and the key derivations of ours are better than another's; of our keys that sign any other's are better, so that they are taken where they are named alone.
constexpr const char* kPreference = "?sallyport.fast=yes,?sallyport.signing=no";

/// A key pair, a public key alone, or nothing yet. Used by one thread at a time, as OpenSSL demands of its users.
struct X25519Key {
    X25519Octets private_key{}, public_key{};
    bool has_private = false, has_public = false;
    X25519Key() = default;
    X25519Key(const X25519Key&) = default;
    X25519Key& operator=(const X25519Key&) = delete;
    ~X25519Key() { crypto::wipe(private_key.data(), private_key.size()); }
};

X25519Key& key_of(void* key) noexcept { return *static_cast<X25519Key*>(key); }
const X25519Key& key_of(const void* key) noexcept { return *static_cast<const X25519Key*>(key); }

/// Octets of the right length in a parameter.
bool read(const OSSL_PARAM* param, X25519Octets& octets) noexcept {
    void* to = octets.data();
    std::size_t length = 0;
    return OSSL_PARAM_get_octet_string(param, &to, octets.size(), &length) == 1 && length == octets.size();
}

// ---- key management ----

void* new_key(void*) noexcept { return new (std::nothrow) X25519Key; }
void free_key(void* key) noexcept { delete static_cast<X25519Key*>(key); }

void* copy_key(const void* from, int selection) noexcept {
    auto* const key = new (std::nothrow) X25519Key(key_of(from));
    if (key == nullptr) return nullptr;
    if ((selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY) == 0) {
        crypto::wipe(key->private_key.data(), key->private_key.size());
        key->has_private = false;
    }
    key->has_public = key->has_public && (selection & OSSL_KEYMGMT_SELECT_PUBLIC_KEY) != 0;
    return key;
}

int has_parts(const void* key, int selection) noexcept {
    if (key == nullptr) return 0;
    return ((selection & OSSL_KEYMGMT_SELECT_PUBLIC_KEY) == 0 || key_of(key).has_public) && ((selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY) == 0 || key_of(key).has_private) ? 1 : 0;
}

int match_keys(const void* one, const void* other, int selection) noexcept {
    if ((selection & OSSL_KEYMGMT_SELECT_KEYPAIR) == 0) return 1;   // there is one set of domain parameters
    return key_of(one).has_public && key_of(other).has_public && key_of(one).public_key == key_of(other).public_key ? 1 : 0;
}

int is_valid(const void* key, int selection, int) noexcept {
    if (has_parts(key, selection & OSSL_KEYMGMT_SELECT_KEYPAIR) == 0) return 0;
    if ((selection & OSSL_KEYMGMT_SELECT_KEYPAIR) != OSSL_KEYMGMT_SELECT_KEYPAIR) return 1;   // any octets are a key (RFC 7748 5)
    return crypto::x25519_public_key(key_of(key).private_key) == key_of(key).public_key ? 1 : 0;
}

int import_key(void* to, int selection, const OSSL_PARAM* params) noexcept {
    X25519Key& key = key_of(to);
    const OSSL_PARAM* const public_key = OSSL_PARAM_locate_const(params, OSSL_PKEY_PARAM_PUB_KEY);
    const OSSL_PARAM* const private_key =
        (selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY) != 0 ? OSSL_PARAM_locate_const(params, OSSL_PKEY_PARAM_PRIV_KEY) : nullptr;
    if (public_key == nullptr && private_key == nullptr) return 0;
    if ((private_key != nullptr && !read(private_key, key.private_key)) || (public_key != nullptr && !read(public_key, key.public_key))) return 0;
    key.has_private = private_key != nullptr;
    if (public_key == nullptr) key.public_key = crypto::x25519_public_key(key.private_key);
    key.has_public = true;
    return 1;
}

const OSSL_PARAM* key_types(int) noexcept {
    static const OSSL_PARAM types[] = {OSSL_PARAM_octet_string(OSSL_PKEY_PARAM_PUB_KEY, nullptr, 0), OSSL_PARAM_octet_string(OSSL_PKEY_PARAM_PRIV_KEY, nullptr, 0), OSSL_PARAM_END};
    return types;
}

int export_key(void* from, int selection, OSSL_CALLBACK* take, void* argument) noexcept {
    X25519Key& key = key_of(from);
    OSSL_PARAM params[3] = {OSSL_PARAM_END, OSSL_PARAM_END, OSSL_PARAM_END};
    std::size_t count = 0;
    if ((selection & OSSL_KEYMGMT_SELECT_PUBLIC_KEY) != 0 && key.has_public)
        params[count++] = OSSL_PARAM_construct_octet_string(OSSL_PKEY_PARAM_PUB_KEY, key.public_key.data(), kX25519Length);
    if ((selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY) != 0 && key.has_private)
        params[count++] = OSSL_PARAM_construct_octet_string(OSSL_PKEY_PARAM_PRIV_KEY, key.private_key.data(), kX25519Length);
    return count > 0 ? take(params, argument) : 0;
}

int get_key_params(void* from, OSSL_PARAM* params) noexcept {
    constexpr int kBits = 253, kSecurityBits = 128;
    const X25519Key& key = key_of(from);
    const auto number = [params](const char* name, int value) {
        OSSL_PARAM* const param = OSSL_PARAM_locate(params, name);
        return param == nullptr || OSSL_PARAM_set_int(param, value) == 1;
    };
    const auto octets = [params](const char* name, const X25519Octets& value, bool there) {
        OSSL_PARAM* const param = OSSL_PARAM_locate(params, name);
        return param == nullptr || (there && OSSL_PARAM_set_octet_string(param, value.data(), value.size()) == 1);
    };
    return number(OSSL_PKEY_PARAM_BITS, kBits) && number(OSSL_PKEY_PARAM_SECURITY_BITS, kSecurityBits) && number(OSSL_PKEY_PARAM_MAX_SIZE, kX25519Length) &&
                   octets(OSSL_PKEY_PARAM_ENCODED_PUBLIC_KEY, key.public_key, key.has_public) && octets(OSSL_PKEY_PARAM_PUB_KEY, key.public_key, key.has_public) &&
                   octets(OSSL_PKEY_PARAM_PRIV_KEY, key.private_key, key.has_private)
               ? 1
               : 0;
}

const OSSL_PARAM* gettable_key_params(void*) noexcept {
    static const OSSL_PARAM params[] = {OSSL_PARAM_int(OSSL_PKEY_PARAM_BITS, nullptr),
                                        OSSL_PARAM_int(OSSL_PKEY_PARAM_SECURITY_BITS, nullptr),
                                        OSSL_PARAM_int(OSSL_PKEY_PARAM_MAX_SIZE, nullptr),
                                        OSSL_PARAM_octet_string(OSSL_PKEY_PARAM_ENCODED_PUBLIC_KEY, nullptr, 0),
                                        OSSL_PARAM_octet_string(OSSL_PKEY_PARAM_PUB_KEY, nullptr, 0),
                                        OSSL_PARAM_octet_string(OSSL_PKEY_PARAM_PRIV_KEY, nullptr, 0),
                                        OSSL_PARAM_END};
    return params;
}

/// The peer's key share, as libssl sets it.
int set_key_params(void* to, const OSSL_PARAM* params) noexcept {
    const OSSL_PARAM* const encoded = OSSL_PARAM_locate_const(params, OSSL_PKEY_PARAM_ENCODED_PUBLIC_KEY);
    if (encoded == nullptr) return 1;
    X25519Key& key = key_of(to);
    crypto::wipe(key.private_key.data(), key.private_key.size());
    key.has_private = false;
    key.has_public = read(encoded, key.public_key);
    return key.has_public ? 1 : 0;
}

const OSSL_PARAM* settable_key_params(void*) noexcept {
    static const OSSL_PARAM params[] = {OSSL_PARAM_octet_string(OSSL_PKEY_PARAM_ENCODED_PUBLIC_KEY, nullptr, 0), OSSL_PARAM_END};
    return params;
}

/// What is to be made; X25519 has nothing else to choose.
struct Generation {
    int selection;
};

int set_generation_params(void*, const OSSL_PARAM* params) noexcept {
    if (params == nullptr) return 1;
    // A key that is derived from something is OpenSSL's own to make: nobody may get a random one in its place.
    if (OSSL_PARAM_locate_const(params, OSSL_PKEY_PARAM_DHKEM_IKM) != nullptr) return 0;
    if (const OSSL_PARAM* const group = OSSL_PARAM_locate_const(params, OSSL_PKEY_PARAM_GROUP_NAME)) {
        const char* name = nullptr;
        if (OSSL_PARAM_get_utf8_string_ptr(group, &name) != 1 || OPENSSL_strcasecmp(name, "x25519") != 0) return 0;
    }
    return 1;
}

const OSSL_PARAM* settable_generation_params(void*, void*) noexcept {
    static const OSSL_PARAM params[] = {OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, nullptr, 0), OSSL_PARAM_octet_string(OSSL_PKEY_PARAM_DHKEM_IKM, nullptr, 0), OSSL_PARAM_END};
    return params;
}

void* begin_generation(void*, int selection, const OSSL_PARAM* params) noexcept {
    auto* const generation = new (std::nothrow) Generation{selection};
    if (generation == nullptr || set_generation_params(generation, params) == 1) return generation;
    delete generation;
    return nullptr;
}

void end_generation(void* generation) noexcept { delete static_cast<Generation*>(generation); }

void* generate(void* generation, OSSL_CALLBACK*, void*) noexcept {
    auto* const key = new (std::nothrow) X25519Key;
    if (key == nullptr || (static_cast<Generation*>(generation)->selection & OSSL_KEYMGMT_SELECT_KEYPAIR) == 0) return key;   // domain parameters alone: a place for a peer's key
    if (crypto::make_x25519_key(key->private_key, key->public_key)) {
        key->has_private = key->has_public = true;
        return key;
    }
    delete key;
    return nullptr;
}

const char* name_for(int operation) noexcept { return operation == OSSL_OP_KEYEXCH || operation == OSSL_OP_KEM ? "X25519" : nullptr; }

// ---- key agreement ----

struct Agreement {
    const X25519Key* own = nullptr;    ///< borrowed of the EVP_PKEY_CTX, which holds its key
    X25519Octets peer{};
    bool has_peer = false;
};

Agreement& agreement_of(void* agreement) noexcept { return *static_cast<Agreement*>(agreement); }

void* new_agreement(void*) noexcept { return new (std::nothrow) Agreement; }
void free_agreement(void* agreement) noexcept { delete static_cast<Agreement*>(agreement); }
void* copy_agreement(void* agreement) noexcept { return new (std::nothrow) Agreement(agreement_of(agreement)); }

int begin_agreement(void* agreement, void* key, const OSSL_PARAM*) noexcept {
    if (key == nullptr || !key_of(key).has_private) return 0;
    agreement_of(agreement) = {&key_of(key)};
    return 1;
}

int set_peer(void* agreement, void* key) noexcept {
    if (key == nullptr || !key_of(key).has_public) return 0;
    agreement_of(agreement).peer = key_of(key).public_key;
    agreement_of(agreement).has_peer = true;
    return 1;
}

int agree(void* of, unsigned char* secret, std::size_t* length, std::size_t room) noexcept {
    const Agreement& agreement = agreement_of(of);
    if (agreement.own == nullptr || !agreement.has_peer) return 0;
    *length = kX25519Length;
    if (secret == nullptr) return 1;
    if (room < kX25519Length) return 0;
    crypto::X25519Agreement work;
    work.private_key = &agreement.own->private_key;
    work.peer = &agreement.peer;
    if (!OperationBatch::await(&work)) crypto::agree_x25519({&work, 1});
    if (work.agreed) std::memcpy(secret, work.shared.data(), work.shared.size());
    crypto::wipe(work.shared.data(), work.shared.size());
    return work.agreed ? 1 : 0;
}

// ---- the provider ----

const OSSL_ALGORITHM* query(void*, int operation, int* may_not_be_kept) noexcept {
    static const OSSL_DISPATCH keys[] = {entry(OSSL_FUNC_KEYMGMT_NEW, new_key),
                                         entry(OSSL_FUNC_KEYMGMT_FREE, free_key),
                                         entry(OSSL_FUNC_KEYMGMT_DUP, copy_key),
                                         entry(OSSL_FUNC_KEYMGMT_HAS, has_parts),
                                         entry(OSSL_FUNC_KEYMGMT_MATCH, match_keys),
                                         entry(OSSL_FUNC_KEYMGMT_VALIDATE, is_valid),
                                         entry(OSSL_FUNC_KEYMGMT_IMPORT, import_key),
                                         entry(OSSL_FUNC_KEYMGMT_IMPORT_TYPES, key_types),
                                         entry(OSSL_FUNC_KEYMGMT_EXPORT, export_key),
                                         entry(OSSL_FUNC_KEYMGMT_EXPORT_TYPES, key_types),
                                         entry(OSSL_FUNC_KEYMGMT_GET_PARAMS, get_key_params),
                                         entry(OSSL_FUNC_KEYMGMT_GETTABLE_PARAMS, gettable_key_params),
                                         entry(OSSL_FUNC_KEYMGMT_SET_PARAMS, set_key_params),
                                         entry(OSSL_FUNC_KEYMGMT_SETTABLE_PARAMS, settable_key_params),
                                         entry(OSSL_FUNC_KEYMGMT_GEN_INIT, begin_generation),
                                         entry(OSSL_FUNC_KEYMGMT_GEN_SET_PARAMS, set_generation_params),
                                         entry(OSSL_FUNC_KEYMGMT_GEN_SETTABLE_PARAMS, settable_generation_params),
                                         entry(OSSL_FUNC_KEYMGMT_GEN, generate),
                                         entry(OSSL_FUNC_KEYMGMT_GEN_CLEANUP, end_generation),
                                         entry(OSSL_FUNC_KEYMGMT_QUERY_OPERATION_NAME, name_for),
                                         OSSL_DISPATCH_END};
    static const OSSL_DISPATCH agreements[] = {entry(OSSL_FUNC_KEYEXCH_NEWCTX, new_agreement),
                                               entry(OSSL_FUNC_KEYEXCH_FREECTX, free_agreement),
                                               entry(OSSL_FUNC_KEYEXCH_DUPCTX, copy_agreement),
                                               entry(OSSL_FUNC_KEYEXCH_INIT, begin_agreement),
                                               entry(OSSL_FUNC_KEYEXCH_SET_PEER, set_peer),
                                               entry(OSSL_FUNC_KEYEXCH_DERIVE, agree),
                                               OSSL_DISPATCH_END};
    static const char* const kProperties = "provider=sallyport,sallyport.fast=yes";
    static const OSSL_ALGORITHM key_management[] = {{"X25519:1.3.101.110", kProperties, keys, "X25519 keys (lib25519)"}, signing_key_management()[0], signing_key_management()[1], {nullptr, nullptr, nullptr, nullptr}};
    static const OSSL_ALGORITHM key_exchange[] = {{"X25519:1.3.101.110", kProperties, agreements, "X25519 (lib25519)"}, {nullptr, nullptr, nullptr, nullptr}};
    *may_not_be_kept = 0;
    switch (operation) {
        case OSSL_OP_KEYMGMT: return key_management;
        case OSSL_OP_KEYEXCH: return key_exchange;
        case OSSL_OP_SIGNATURE: return signatures();
        case OSSL_OP_KDF: return key_derivations();
        case OSSL_OP_RAND: return random_sources();
        default: return nullptr;
    }
}

/// libssl takes a group from the provider that it has the group's keys from (provider-base(7), TLS-GROUP).
int capabilities(void*, const char* capability, OSSL_CALLBACK* take, void* argument) noexcept {
    if (OPENSSL_strcasecmp(capability, "TLS-GROUP") != 0) return 0;
    static char name[] = "x25519", names_key[] = "X25519";
    static unsigned id = 0x001d, security_bits = 128;
    static int oldest = TLS1_2_VERSION, newest = 0, no_dtls = -1;
    OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_string(OSSL_CAPABILITY_TLS_GROUP_NAME, name, sizeof name),
                           OSSL_PARAM_construct_utf8_string(OSSL_CAPABILITY_TLS_GROUP_NAME_INTERNAL, names_key, sizeof names_key),
                           OSSL_PARAM_construct_utf8_string(OSSL_CAPABILITY_TLS_GROUP_ALG, names_key, sizeof names_key),
                           OSSL_PARAM_construct_uint(OSSL_CAPABILITY_TLS_GROUP_ID, &id),
                           OSSL_PARAM_construct_uint(OSSL_CAPABILITY_TLS_GROUP_SECURITY_BITS, &security_bits),
                           OSSL_PARAM_construct_int(OSSL_CAPABILITY_TLS_GROUP_MIN_TLS, &oldest),
                           OSSL_PARAM_construct_int(OSSL_CAPABILITY_TLS_GROUP_MAX_TLS, &newest),
                           OSSL_PARAM_construct_int(OSSL_CAPABILITY_TLS_GROUP_MIN_DTLS, &no_dtls),
                           OSSL_PARAM_construct_int(OSSL_CAPABILITY_TLS_GROUP_MAX_DTLS, &no_dtls),
                           OSSL_PARAM_construct_end()};
    return take(params, argument);
}

int start(const OSSL_CORE_HANDLE*, const OSSL_DISPATCH*, const OSSL_DISPATCH** functions, void** context) noexcept {
    static const OSSL_DISPATCH all[] = {entry(OSSL_FUNC_PROVIDER_QUERY_OPERATION, query), entry(OSSL_FUNC_PROVIDER_GET_CAPABILITIES, capabilities), OSSL_DISPATCH_END};
    static int nothing = 0;
    *functions = all;
    *context = &nothing;
    return 1;
}

}  // namespace

void load_key_provider() {
    const auto require = [](bool done, const char* what) {
        if (!done) throw std::runtime_error(sallyport::format("OpenSSL refuses {}: {}", what, openssl::error_queue()));
    };
    static_cast<void>(crypto::multi_buffer());   // opened here, since a sandbox would not let it be
    // Naming one provider takes away the default one, which is only there as long as none is named.
    require(OSSL_PROVIDER_load(nullptr, "default") != nullptr, "its default provider");
    require(OSSL_PROVIDER_add_builtin(nullptr, kProvider, start) == 1 && OSSL_PROVIDER_load(nullptr, kProvider) != nullptr, "our provider of keys");
    require(EVP_set_default_properties(nullptr, kPreference) == 1, "our preference");
    require(use_random_source(), "our random bit generator");
}

}  // namespace sallyport::handshake
