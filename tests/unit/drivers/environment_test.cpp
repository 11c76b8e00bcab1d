#include "drivers/environment.h"

#include "tests/unit/eal.h"

namespace sallyport::drivers {
namespace {

TEST(BufferPool, FreeRestoresTheCount) {
    test::BufferPool pool(63);
    rte_mbuf* first = rte_pktmbuf_alloc(pool.get());
    ASSERT_NE(first, nullptr);
    EXPECT_EQ(pool.in_use(), 1u);
    EXPECT_EQ(rte_pktmbuf_priv_size(pool.get()), kBufferPrivateSize);
    rte_pktmbuf_free(first);
    EXPECT_EQ(pool.in_use(), 0u);
}

}  // namespace
}  // namespace sallyport::drivers
