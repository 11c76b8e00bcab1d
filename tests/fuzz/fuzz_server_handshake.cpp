#include <algorithm>
#include <chrono>
#include <cstdint>
#include <memory>
#include <span>

#include "control/handshake/ech_keys.h"
#include "control/handshake/handshake.h"
#include "control/handshake/key_provider.h"
#include "crypto/check.h"
#include "tests/certificates.h"

/// Fuzzes ServerHandshake::feed with what a client may send before it knows any key. The first octet says in what pieces the
/// rest comes.
namespace {

using namespace sallyport;

std::shared_ptr<const handshake::ServerContext> make_context() {
    handshake::load_key_provider();
    const test::TemporaryDirectory directory;
    const test::Identity ca = test::make_ca("Fuzz CA");
    test::make_leaf({"a.example", "*.wild.example", "public.example"}, ca).write(directory.path(), "leaf");
    configuration::Configuration configuration;
    configuration.policy_level = 1;
    configuration::Service service;
    service.name = "fuzz";
    service.certificates.resize(1);
    service.certificates.front().certificate = directory.path() / "leaf.pem";
    service.certificates.front().key = directory.path() / "leaf.key";
    service.alpn = {"h2", "http/1.1"};
    service.versions = {configuration::TlsVersion::tls13, configuration::TlsVersion::tls12};
    service.ech = configuration::Ech{.public_name = "public.example"};
    service.client_auth.mode = configuration::ClientAuthMode::optional;
    service.client_auth.trust = {directory.write("ca.pem", ca.certificate_pem())};
    return handshake::make_server_context(configuration, service,
                                          {.tickets = handshake::make_ticket_keys({}), .ech = handshake::EchKeys::make(*service.ech, std::chrono::system_clock::now())});
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static const auto context = make_context();
    if (size == 0) return 0;
    const std::size_t piece = std::max<std::size_t>(data[0], 1);
    auto stream = std::as_bytes(std::span(data, size)).subspan(1);
    // The brake is asked once; what it was shown is what the record of a failure shows.
    int asked = 0;
    handshake::ServerHandshake server(context, [&asked](const handshake::Offer& offer) {
        ++asked;
        SALLYPORT_CHECK(offer.ja4.empty() && offer.suites.size() <= handshake::Offer::kMostValues);   // nothing is hashed before it has said yes
        return true;
    });
    std::vector<std::byte> output;
    auto step = handshake::Step::more;
    std::uint64_t fed = 0;
    while (!stream.empty() && step == handshake::Step::more) {
        const auto octets = stream.first(std::min(piece, stream.size()));
        stream = stream.subspan(octets.size());
        fed += octets.size();
        step = server.feed(octets, output);
        SALLYPORT_CHECK(server.consumed() <= fed);
        SALLYPORT_CHECK(step == handshake::Step::failed || server.consumed() == fed);
    }
    SALLYPORT_CHECK(asked <= 1);
    SALLYPORT_CHECK(step != handshake::Step::done);  // nobody completes a handshake without the server's answer
    const handshake::Failure& failure = server.failure();
    SALLYPORT_CHECK((step == handshake::Step::failed) == (failure.reason != channel::EndReason::none));
    SALLYPORT_CHECK(failure.reason != channel::EndReason::client_not_tls || output.empty());
    return 0;
}
