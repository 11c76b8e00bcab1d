// What they compute is compared with OpenSSL in aead_batch_random_test.cpp (avx2_vaes).

#include "crypto/gcm_functions.h"

#include <gtest/gtest.h>

#include <memory>

namespace sallyport::crypto {
namespace {

bool has(std::uint64_t features) { return (imb_get_feature_flags() & features) == features; }
constexpr std::uint64_t kVaes = IMB_CPUFLAGS_AVX2 | IMB_FEATURE_VAES | IMB_FEATURE_VPCLMULQDQ;

TEST(GcmFunctions, ProcessorWithVaes_LibraryHasThem) { EXPECT_EQ(vaes_gcm_functions() != nullptr, has(kVaes)); }

TEST(GcmFunctions, ManagerWithoutVaes_FastestAreThoseWithIt) {
    if (!has(kVaes)) GTEST_SKIP() << "this processor has no VAES";
    const std::unique_ptr<IMB_MGR, void (*)(IMB_MGR*)> manager(alloc_mb_mgr(0), free_mb_mgr);
    init_mb_mgr_avx2(manager.get());
    const GcmFunctionsByKey fastest = fastest_gcm_functions(*manager);
    EXPECT_EQ(fastest.of_128.seal_update, vaes_gcm_functions()->of_128.seal_update);   // also where the manager has chosen them by itself
    EXPECT_EQ(fastest.of_256.expand, vaes_gcm_functions()->of_256.expand);
}

TEST(GcmFunctions, ManagerOfAnotherKind_KeepsItsOwn) {
    const std::unique_ptr<IMB_MGR, void (*)(IMB_MGR*)> manager(alloc_mb_mgr(0), free_mb_mgr);
    init_mb_mgr_sse(manager.get());
    EXPECT_EQ(fastest_gcm_functions(*manager).of_128.seal_update, manager->gcm128_enc_update);
}

}  // namespace
}  // namespace sallyport::crypto
