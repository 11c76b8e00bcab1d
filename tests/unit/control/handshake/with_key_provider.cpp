#include <gtest/gtest.h>

#include "control/handshake/key_provider.h"

namespace sallyport::handshake {
namespace {

/// All tests of a program that has this file run with our keys, as the appliance does.
class WithKeyProvider : public testing::Environment {
 public:
    void SetUp() override { load_key_provider(); }
};
[[maybe_unused]] const testing::Environment* const kWithKeyProvider = testing::AddGlobalTestEnvironment(new WithKeyProvider);

}  // namespace
}  // namespace sallyport::handshake
