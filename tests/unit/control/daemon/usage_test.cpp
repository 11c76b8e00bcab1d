#include "control/daemon/usage.h"

#include <gtest/gtest.h>

namespace sallyport::daemon {
namespace {

TEST(Usage, OfThisProcess_IsThereAndGrows) {
    const Usage before = usage();
    EXPECT_GT(before.resident_octets, 1u << 20);
    Usage after = before;
    while (after.cpu <= before.cpu) after = usage();   // looking takes time itself
    EXPECT_GT(after.cpu, before.cpu);
}

}  // namespace
}  // namespace sallyport::daemon
