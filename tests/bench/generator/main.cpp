#include <csignal>
#include <cstdio>
#include <fstream>

#include "control/certificates/openssl_memory.h"
#include "control/daemon/exit_code.h"
#include "drivers/environment.h"
#include "tests/bench/generator/generator.h"
#include "tests/bench/generator/options.h"
#include "tests/bench/generator/report.h"

using namespace sallyport;

namespace {

volatile std::sig_atomic_t stop = 0;

void on_signal(int) { stop = 1; }

/// Writes a file by `write`; false, and a message, when that failed.
template <typename Write>
bool write_file(const std::string& name, Write&& write) {
    std::ofstream file(name);
    write(file);
    file.close();
    if (file) return true;
    std::fprintf(stderr, "%s: could not be written\n", name.c_str());
    return false;
}

int run(const generator::Options& options) {
    auto made = generator::Generator::make(options);
    if (!made) {
        std::fprintf(stderr, "sallyport_generator: %s\n", made.error().c_str());
        return exit_code::kUnavailable;
    }
    const auto result = (*made)->run(stop);
    if (!result) {
        std::fprintf(stderr, "sallyport_generator: %s\n", result.error().c_str());
        return exit_code::kUnavailable;
    }
    const nlohmann::json report = generator::report(**made, *result);
    bool written = true;
    if (options.json_file == "-")
        std::printf("%s\n", report.dump(2).c_str());
    else
        std::printf("%s", generator::table(report).c_str());
    if (!options.json_file.empty() && options.json_file != "-") written = write_file(options.json_file, [&](std::ostream& out) { out << report.dump(2) << '\n'; });
    if (!options.percentiles_file.empty() && (*made)->clients() != nullptr)
        written &= write_file(options.percentiles_file, [&](std::ostream& out) { (*made)->clients()->last_octet().print(out); });
    if (!written) return exit_code::kOsError;
    return report["good"].get<bool>() ? exit_code::kOk : exit_code::kFailure;
}

}  // namespace

int main(int argc, char** argv) {
    openssl::keep_freed_memory();
    const auto options = generator::parse_options(argc, argv);
    if (!options) {
        std::fprintf(options.error().exit_code == exit_code::kOk ? stdout : stderr, "%s", options.error().text.c_str());
        return options.error().exit_code;
    }
    std::signal(SIGINT, on_signal);
    std::signal(SIGTERM, on_signal);
    const int code = run(*options);
    drivers::stop_environment();
    return code;
}
