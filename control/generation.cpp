#include "control/generation.h"

#include <openssl/evp.h>

#include <array>
#include <string>

namespace sallyport {

std::uint32_t generation_of(const configuration::Configuration& configuration) {
    std::string text;
    for (const auto& service : configuration.services) {
        text += "service " + service.name + "\n";
        for (const auto& listen : service.listen) text += listen.to_string() + "\n";
    }
    for (const auto& redirect : configuration.redirects) {
        text += "redirect " + redirect.name + "\n";
        for (const auto& listen : redirect.listen) text += listen.to_string() + "\n";
    }
    for (const auto& pool : configuration.pools) {
        text += "pool " + pool.name + "\n";
        for (const auto& member : pool.members) text += member.name + " " + member.address.to_string() + "\n";
    }
    std::array<unsigned char, 32> digest{};
    std::size_t length = 0;
    if (EVP_Q_digest(nullptr, "SHA256", nullptr, text.data(), text.size(), digest.data(), &length) != 1) return 1;
    return 1 | (std::uint32_t{digest[0]} << 24 | std::uint32_t{digest[1]} << 16 | std::uint32_t{digest[2]} << 8 | digest[3]);
}

}  // namespace sallyport
