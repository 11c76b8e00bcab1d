#include "control/generation.h"

#include <openssl/evp.h>

#include <array>
#include <string>

namespace sallyport {

std::uint32_t generation_of(channel::DataplaneConfiguration configuration) {
    configuration.generation = 0;
    const std::string text = to_json(configuration);
    std::array<unsigned char, 32> digest{};
    std::size_t length = 0;
    if (EVP_Q_digest(nullptr, "SHA256", nullptr, text.data(), text.size(), digest.data(), &length) != 1) return 1;
    return 1 | (std::uint32_t{digest[0]} << 24 | std::uint32_t{digest[1]} << 16 | std::uint32_t{digest[2]} << 8 | digest[3]);
}

}  // namespace sallyport
