// Whatever comes as an OCSP answer is refused with a reason, and nothing is believed without a signature.
#include <cstddef>
#include <cstdint>
#include <span>

#include "control/revocation/crl_set.h"
#include "crypto/check.h"
#include "tests/certificates.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace sallyport::revocation;
    static const auto ca = sallyport::test::make_ca("Fuzz CA");
    static const auto leaf = sallyport::test::make_leaf({"a.example"}, ca);
    const auto octets = std::as_bytes(std::span(data, size));
    const auto verdict = check_ocsp(octets, leaf.certificate.get(), ca.certificate.get(), Clock::now());
    // Nobody draws a signature of a key that was made a moment ago.
    SALLYPORT_CHECK(verdict.standing == Standing::unknown && !verdict.why.empty());
    return 0;
}
