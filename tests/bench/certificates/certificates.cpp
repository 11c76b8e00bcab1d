// What many certificates cost control: how long a configuration with them takes to load, what each takes of memory, and how a name finds its own.
//
//   certificates_bench DIRECTORY [CERTIFICATES [SERVICES]]      10000 of 1 unless told
//
// DIRECTORY/CERTIFICATES-SERVICES is filled by the first run (ECDSA P-256 leaves of one intermediate, each with a key and a name of its own, in a file of its
// own) and used again by the next. Figures are of this one run: what is in the file cache already is read faster.

#include <malloc.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <format>
#include <fstream>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "control/configuration/configuration.h"
#include "control/flows/runtime.h"
#include "control/handshake/server_context.h"
#include "control/policy/requirements/requirements.h"
#include "control/revocation/own_answers.h"
#include "control/revocation/watcher.h"
#include "crypto/check.h"
#include "crypto/format.h"
#include "tests/certificates.h"

namespace sallyport {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

/// Octets of memory that are in use: what malloc has given out.
std::size_t in_use() {
    const auto info = mallinfo2();
    return info.uordblks + info.hblkhd;
}

std::string name(int i) { return sallyport::format("n{}.example.org", i); }

void write(const fs::path& file, const std::string& text) {
    std::ofstream(file) << text;
    fs::permissions(file, fs::perms::owner_read | fs::perms::owner_write);
}

fs::path make(const fs::path& directory, int certificates, int services) {
    const fs::path file = directory / "bench.conf";
    if (fs::exists(file)) return file;
    const test::Identity root = test::make_ca("Root"), lower = test::make_ca("Lower", &root);
    for (int i = 0; i < certificates; ++i) {
        const fs::path of = directory / sallyport::format("s{}", i % services);
        if (i < services) fs::create_directories(of);
        const test::Identity leaf = test::make_leaf({name(i)}, lower);
        write(of / sallyport::format("{}.pem", i), leaf.certificate_pem() + leaf.key_pem());
    }
    fs::create_directories(directory / "roots");
    write(directory / "roots/ca.pem", root.certificate_pem());
    std::string text =
        "policy = { level = 1; };\n"
        "certificates: { public_roots = \"roots\"; };\n"
        "ports = ( { name = \"outside\"; profile = \"af_packet\"; device = \"veth0\"; addresses = [ \"192.0.2.1/24\" ]; } );\n"
        "pools = ( { name = \"web\"; members = ( { address = \"192.0.2.10:443\"; } ); tls: { trust = [ \"roots/ca.pem\" ]; server_name = \"a.internal\"; }; } );\n"
        "control: { state_directory = \"state\"; };\n"
        "services = (";
    for (int i = 0; i < services; ++i)
        text += sallyport::format("{}\n    {{ name = \"s{}\"; listen = [ \"192.0.2.1:{}\" ]; pool = \"web\"; certificate_directory = \"s{}\"; }}", i > 0 ? "," : "", i, 1000 + i, i);
    write(file, text + " );\n");
    return file;
}

class Stage {
 public:
    explicit Stage(const char* what) : what_(what) {}
    ~Stage() {
        const double spent = std::chrono::duration<double, std::milli>(Clock::now() - begin_).count();
        std::printf("%-56s %9.1f ms %9.1f MB\n", what_, spent, (static_cast<double>(in_use()) - static_cast<double>(before_)) / 1e6);
    }
    Stage(const Stage&) = delete;
    Stage& operator=(const Stage&) = delete;

 private:
    const char* what_;
    Clock::time_point begin_ = Clock::now();
    std::size_t before_ = in_use();
};

void run(const fs::path& file, int certificates, int services) {
    std::unique_ptr<configuration::Configuration> configuration;
    std::unique_ptr<revocation::Watcher> watcher;
    std::unique_ptr<flows::Runtime> runtime;
    const std::size_t before = in_use();
    {
        const Stage stage("read, parsed, checked by the policy");
        auto loaded = configuration::load(file, {.check = policy::check_load, .ask = {}});
        if (!loaded) {
            std::fprintf(stderr, "%s\n", loaded.error().front().to_string().c_str());
            std::exit(1);
        }
        configuration = std::make_unique<configuration::Configuration>(std::move(*loaded));
    }
    {
        const Stage stage("a watcher for staples and CRLs");
        watcher = std::make_unique<revocation::Watcher>(*configuration, revocation::make_fetch(configuration->revocation));
    }
    {
        const Stage stage("what handshakes work with");
        flows::Materials materials;
        materials.of_service = [&](std::uint32_t) {
            handshake::ServerMaterials of;
            of.staple = [answers = watcher->answers()](const certificates::CertificateChain& chain) { return answers->staple(chain); };
            of.revoked = [answers = watcher->answers()](const certificates::CertificateChain& chain) { return answers->revoked(chain); };
            return of;
        };
        runtime = std::make_unique<flows::Runtime>(std::move(*configuration), materials);
    }
    std::printf("%-56s %26.2f KB\n", "memory of each certificate, all counted", static_cast<double>(in_use() - before) / certificates / 1e3);
    {
        const Stage stage("the state of the policy, once");
        policy::RunState state;
        state.now = std::chrono::system_clock::now();
        state.certificates = policy::running_certificates(runtime->configuration);
        state.staples = watcher->own();
        for (const auto* module : policy::requirements()) static_cast<void>(policy::evaluate(*module, runtime->configuration, state));
    }
    std::mt19937 random(1);
    constexpr int kLooks = 100'000;
    std::vector<std::pair<int, std::string>> names;
    for (int i = 0; i < kLooks; ++i) names.emplace_back(std::uniform_int_distribution(0, certificates - 1)(random), "");
    for (auto& [number, text] : names) text = name(number);
    const auto begin = Clock::now();
    for (const auto& [number, text] : names)
        SALLYPORT_CHECK(runtime->services[static_cast<std::size_t>(number % services)]->context.load()->find(text).size() == 1);
    std::printf("%-56s %9.0f ns\n", "a name drawn at random finds its certificate", std::chrono::duration<double, std::nano>(Clock::now() - begin).count() / kLooks);
}

}  // namespace
}  // namespace sallyport

int main(int argc, char** argv) {
    const int certificates = argc > 2 ? std::max(1, std::atoi(argv[2])) : 10'000, services = argc > 3 ? std::max(1, std::atoi(argv[3])) : 1;
    if (argc < 2 || certificates < services) {
        std::fprintf(stderr, "usage: certificates_bench DIRECTORY [CERTIFICATES [SERVICES]]\n");
        return 2;
    }
    sallyport::run(sallyport::make(std::filesystem::absolute(argv[1]) / sallyport::format("{}-{}", certificates, services), certificates, services), certificates, services);
    return 0;
}
