// Whatever comes as a CRL is refused with a reason, and nothing is believed without a signature.
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
    sallyport::revocation::CrlSet set;
    // Nobody draws a signature of a key that was made a moment ago.
    SALLYPORT_CHECK(!set.add(octets, ca.certificate.get(), Clock::now()).empty());
    SALLYPORT_CHECK(set.empty());
    SALLYPORT_CHECK(set.check(leaf.certificate.get(), ca.certificate.get(), Clock::now()).standing == Standing::unknown);
    return 0;
}
