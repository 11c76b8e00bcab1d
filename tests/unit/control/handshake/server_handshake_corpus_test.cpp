#include <gtest/gtest.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

TEST(ServerHandshakeCorpus, EveryFile_KeepsTheContract) {
    std::size_t files = 0;
    for (const auto& entry : std::filesystem::directory_iterator(SERVER_HANDSHAKE_CORPUS)) {
        std::ifstream stream(entry.path(), std::ios::binary);
        const std::string octets{std::istreambuf_iterator<char>(stream), {}};
        EXPECT_EQ(LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t*>(octets.data()), octets.size()), 0);
        ++files;
    }
    EXPECT_GT(files, 0U);
}

}  // namespace
