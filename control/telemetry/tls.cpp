#include "control/telemetry/tls.h"

#include <stdexcept>
#include <string_view>

#include "control/channel/address.h"
#include "control/handshake/peer_certificate.h"
#include "control/handshake/server_context.h"
#include "crypto/format.h"

namespace sallyport::telemetry {

namespace {

void require(bool done, std::string_view what) {
    if (!done) throw std::runtime_error(sallyport::format("libssl refuses {}: {}", what, openssl::error_queue()));
}

/// The list of names lives as long as its context.
int names_index() {
    static const int index = SSL_CTX_get_ex_new_index(0, nullptr, nullptr, nullptr, [](void*, void* names, CRYPTO_EX_DATA*, int, long, void*) {
        delete static_cast<std::vector<std::string>*>(names);
    });
    return index;
}

/// Asked for each certificate of a chain that has been verified; the last is the client's own.
int allow_name(int good, X509_STORE_CTX* chain) {
    if (good != 1 || X509_STORE_CTX_get_error_depth(chain) != 0) return good;
    auto* ssl = static_cast<SSL*>(X509_STORE_CTX_get_ex_data(chain, SSL_get_ex_data_X509_STORE_CTX_idx()));
    const auto* names = static_cast<const std::vector<std::string>*>(SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), names_index()));
    if (names != nullptr && handshake::name_allowed(*names, X509_STORE_CTX_get_current_cert(chain))) return 1;
    X509_STORE_CTX_set_error(chain, X509_V_ERR_APPLICATION_VERIFICATION);
    return 0;
}

void put_identity(SSL_CTX* context, const configuration::CertificateFiles& files, int policy_level, const std::string& owner) {
    const auto chain = handshake::chain_of(files, policy_level, owner);
    const auto intermediates = handshake::intermediates_of(*chain);
    require(SSL_CTX_use_cert_and_key(context, chain->leaf.get(), chain->key.get(), intermediates.get(), 1) == 1, "the certificate of " + owner);
}

void put_anchors(SSL_CTX* context, const std::vector<std::shared_ptr<X509>>& anchors, const std::vector<std::filesystem::path>& files, int policy_level,
                 const std::string& owner, int purpose) {
    openssl::Store store(X509_STORE_new());
    require(store != nullptr, "a certificate store");
    if (handshake::trust(store.get(), anchors, files, policy_level, owner).empty()) throw std::runtime_error(owner + ": no anchor");
    SSL_CTX_set_cert_store(context, store.release());
    X509_VERIFY_PARAM* const parameters = SSL_CTX_get0_param(context);
    require(X509_VERIFY_PARAM_set_purpose(parameters, purpose) == 1, "the purpose of the peer's certificate");
    require(X509_VERIFY_PARAM_set_flags(parameters, X509_V_FLAG_PARTIAL_CHAIN | X509_V_FLAG_TRUSTED_FIRST) == 1, "verification flags");
    X509_VERIFY_PARAM_set_hostflags(parameters, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS | X509_CHECK_FLAG_NEVER_CHECK_SUBJECT);
}

openssl::Context begin(const SSL_METHOD* method, bool tls12, bool server) {
    openssl::Context context(SSL_CTX_new(method));
    require(context != nullptr, "a context");
    handshake::restrict_to_catalogue(context.get(), tls12, true, server);
    SSL_CTX_set_session_cache_mode(context.get(), SSL_SESS_CACHE_OFF);
    SSL_CTX_set_options(context.get(), SSL_OP_NO_TICKET);
    require(SSL_CTX_set_num_tickets(context.get(), 0) == 1, "to give no tickets");
    return context;
}

}  // namespace

openssl::Context server_context(const configuration::Metrics& metrics, int policy_level) {
    openssl::Context context = begin(TLS_server_method(), false, true);
    put_identity(context.get(), metrics.identity, policy_level, "telemetry.metrics");
    put_anchors(context.get(), metrics.anchors, metrics.clients, policy_level, "telemetry.metrics", X509_PURPOSE_SSL_CLIENT);
    auto names = std::make_unique<std::vector<std::string>>(metrics.names);
    require(SSL_CTX_set_ex_data(context.get(), names_index(), names.get()) == 1, "the list of names");
    names.release();
    SSL_CTX_set_verify(context.get(), SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, allow_name);
    return context;
}

openssl::Context client_context(const configuration::Syslog& syslog, int policy_level) {
    openssl::Context context = begin(TLS_client_method(), policy_level < 3, false);
    if (syslog.identity) put_identity(context.get(), *syslog.identity, policy_level, "flow_log.syslog");
    put_anchors(context.get(), syslog.anchors, syslog.trust, policy_level, "flow_log.syslog", X509_PURPOSE_SSL_SERVER);
    SSL_CTX_set_verify(context.get(), SSL_VERIFY_PEER, nullptr);
    return context;
}

openssl::Connection prepare(SSL_CTX* context, const std::string& server_name) {
    openssl::Connection ssl(SSL_new(context));
    if (!ssl) return nullptr;
    const bool good = IpAddress::parse(server_name) ? SSL_set1_ipaddr(ssl.get(), server_name.c_str()) == 1
                                                    : SSL_set1_dnsname(ssl.get(), server_name.c_str()) == 1 &&
                                                          SSL_set_tlsext_host_name(ssl.get(), server_name.c_str()) == 1;
    if (!good) return nullptr;
    return ssl;
}

}  // namespace sallyport::telemetry
