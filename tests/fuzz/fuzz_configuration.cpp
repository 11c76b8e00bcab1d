// Whatever stands in a configuration, load() ends with a configuration that the dataplane's side accepts too, or with
// problems that can be printed, in order.
#include <cstddef>
#include <cstdint>
#include <string>

#include "control/channel/dataplane_configuration.h"
#include "control/configuration/configuration.h"
#include "crypto/check.h"
#include "tests/certificates.h"

namespace {

/// The certificates that the corpus names.
class Files {
 public:
    Files() {
        const sallyport::test::Identity root = sallyport::test::make_ca("Root");
        root.write(directory_.path(), "ca");
        sallyport::test::make_leaf({"www.example.org"}, root).write(directory_.path(), "www");
    }
    [[nodiscard]] std::filesystem::path write(const std::string& text) const {
        return directory_.write("fuzz.conf", text);
    }

 private:
    sallyport::test::TemporaryDirectory directory_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace sallyport;
    static const Files files;
    const std::filesystem::path file = files.write(std::string(reinterpret_cast<const char*>(data), size));
    const auto loaded = configuration::load(file);
    if (loaded) {
        SALLYPORT_CHECK(!loaded->dataplane.ports.empty());
        for (const configuration::Service& service : loaded->services)
            SALLYPORT_CHECK(service.pool < loaded->pools.size() && !service.listen.empty() &&
                            !service.certificates.empty() && !service.versions.empty());
        for (const configuration::Pool& pool : loaded->pools)
            SALLYPORT_CHECK(!pool.members.empty() && (pool.tls ? !pool.tls->trust.empty() && !pool.tls->versions.empty()
                                                               : loaded->policy_level == 1 && !pool.proxy_protocol));
        const std::string json = channel::to_json(loaded->dataplane);
        SALLYPORT_CHECK(channel::to_json(channel::dataplane_configuration_from_json(json)) == json);
        return 0;
    }
    SALLYPORT_CHECK(!loaded.error().empty());
    int line = 0;
    for (const configuration::Problem& problem : loaded.error()) {
        const std::string text = problem.to_string();
        for (const char c : text) SALLYPORT_CHECK(static_cast<unsigned char>(c) >= 0x20);
        SALLYPORT_CHECK(!problem.wrong.empty() && !problem.right.empty());
        if (problem.place.file != file) continue;
        SALLYPORT_CHECK(problem.place.line >= line);
        line = problem.place.line;
    }
    return 0;
}
