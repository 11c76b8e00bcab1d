#include "drivers/environment.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <set>

#include "tests/unit/eal.h"

namespace sallyport::drivers {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::Not;

PortSettings port(Profile profile, const std::string& device) {
    PortSettings settings;
    settings.name = "lan";
    settings.profile = profile;
    settings.device = device;
    return settings;
}
std::string value_of(const std::vector<std::string>& arguments, const std::string& option) {
    const auto found = std::ranges::find(arguments, option);
    return found == arguments.end() || found + 1 == arguments.end() ? "" : *(found + 1);
}

TEST(EalArguments, HugepagesAndKernelInterfaces_WholeLine) {
    EnvironmentSettings settings;
    settings.cores = {0, 1};
    settings.ports = {port(Profile::af_packet, "eth1")};
    EXPECT_THAT(eal_arguments(settings, 512),
                ElementsAre("sallyport-dataplane", "--lcores", "0@0,1@0,2@1", "--main-lcore", "0", "--file-prefix",
                            "sallyport", "--in-memory", "--no-pci"));
}

TEST(EalArguments, SeveralWorkersOnACore_EachIsAnLcore) {
    EnvironmentSettings settings;
    settings.cores = {1, 1, 3};
    settings.main_core = 1;
    EXPECT_EQ(value_of(eal_arguments(settings, 1), "--lcores"), "0@1,1@1,2@1,3@3");
    EXPECT_EQ(worker_lcore(0), 1u);
    EXPECT_EQ(worker_lcore(2), 3u);
}

TEST(EalArguments, NoHugepages_NoInMemoryWhichExcludesIt) {
    EnvironmentSettings settings;
    settings.cores = {0};
    for (const bool hugepages : {true, false}) {
        settings.hugepages = hugepages;
        const auto arguments = eal_arguments(settings, hugepages ? 0 : 512);
        EXPECT_THAT(arguments, Contains("--no-huge"));
        EXPECT_THAT(arguments, Contains("--no-shconf"));
        EXPECT_THAT(arguments, Not(Contains("--in-memory")));
        EXPECT_EQ(value_of(arguments, "-m"), "1024");
    }
    settings.memory_mb = 300;
    EXPECT_EQ(value_of(eal_arguments(settings, 0), "-m"), "300");
}

TEST(EalArguments, Memif_SharesItsFiles) {
    EnvironmentSettings settings;
    settings.cores = {0};
    settings.file_prefix = "second";
    settings.ports = {port(Profile::memif, "/run/memif.sock")};
    for (const std::uint64_t pages : {0, 512}) {
        const auto arguments = eal_arguments(settings, pages);
        EXPECT_THAT(arguments, Not(Contains("--in-memory")));
        EXPECT_THAT(arguments, Not(Contains("--no-shconf")));
        EXPECT_EQ(value_of(arguments, "--file-prefix"), "second");
    }
}

TEST(EalArguments, Virtio_HasFewFilesOfMemory) {
    EnvironmentSettings settings;
    settings.cores = {0};
    settings.ports = {port(Profile::virtio_user, "/run/virtio.sock")};
    for (const std::uint64_t pages : {0, 512}) EXPECT_THAT(eal_arguments(settings, pages), Contains("--single-file-segments"));
    settings.ports = {port(Profile::vhost_user, "/run/virtio.sock")};
    EXPECT_THAT(eal_arguments(settings, 512), Not(Contains("--single-file-segments")));
}

TEST(EalArguments, Pci_IsAllowedByAddressAndNothingElse) {
    EnvironmentSettings settings;
    settings.cores = {0};
    settings.ports = {port(Profile::pci, "0000:3b:00.0"), port(Profile::tap, "tap0")};
    const auto arguments = eal_arguments(settings, 512);
    EXPECT_EQ(value_of(arguments, "-a"), "0000:3b:00.0");
    EXPECT_THAT(arguments, Not(Contains("--no-pci")));
    EXPECT_EQ(std::ranges::count(arguments, "-a"), 1);
}

TEST(EalArguments, ExtraOnes_ComeLast) {
    EnvironmentSettings settings;
    settings.cores = {0};
    settings.extra = {"--log-level", "debug"};
    const auto arguments = eal_arguments(settings, 0);
    EXPECT_EQ(arguments[arguments.size() - 2], "--log-level");
    EXPECT_EQ(arguments.back(), "debug");
}

// The EAL starts once a process: each of these has one of its own.
EnvironmentSettings small_environment() {
    EnvironmentSettings settings;
    settings.hugepages = false;
    settings.file_prefix = "sallyport-unit-test";
    settings.memory_mb = 128;
    return settings;
}
[[noreturn]] void start_twice() {
    static int lines = 0;
    EnvironmentSettings settings = small_environment();
    settings.cores = {0, 0};
    settings.extra = {"--log-level", "lib.eal:debug"};
    const auto first = start_environment(settings, [](int, const char*) { ++lines; });
    const auto second = start_environment(settings, nullptr);
    if (!first) std::cerr << first.error();
    std::cerr << (second ? "it started again" : second.error()) << ", " << rte_lcore_count() << " lcores, main "
              << rte_get_main_lcore() << (lines > 0 ? ", logged" : ", silent");
    stop_environment();
    std::exit(0);
}
[[noreturn]] void start_with_bad_argument() {
    EnvironmentSettings settings = small_environment();
    settings.cores = {0};
    settings.extra = {"--vdev", "net_nosuch0"};
    const auto started = start_environment(settings, nullptr);
    std::cerr << (started ? "it started" : started.error());
    std::exit(0);
}

TEST(StartEnvironmentDeathTest, TwoWorkersOnOneCore_StartsOnceAndLogsByCallback) {
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    EXPECT_EXIT(start_twice(), testing::ExitedWithCode(0),
                "^DPDK's environment was started before.*, 3 lcores, main 0, logged$");
}

TEST(StartEnvironmentDeathTest, BadArgument_IsNamed) {
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    EXPECT_EXIT(start_with_bad_argument(), testing::ExitedWithCode(0),
                "did not start.*net_nosuch.*its arguments: sallyport-dataplane --lcores");
}

TEST(BuffersForWorker, CoversRingsAndFlows) {
    EXPECT_GT(buffers_for_worker(1024, 1024, 0), 2048u + 4096u);
    EXPECT_EQ(buffers_for_worker(1024, 1024, 100000) - buffers_for_worker(0, 0, 100000), 2048u);
    EXPECT_EQ(buffers_for_worker(0, 0, 200000) - buffers_for_worker(0, 0, 100000), 100000u * kBuffersPerFlow);
}

TEST(DataRoomFor, HoldsAFrameOfTheMtu) {
    EXPECT_EQ(data_room_for(port(Profile::af_packet, "x")), 2048);
    PortSettings jumbo = port(Profile::memif, "x");
    jumbo.mtu = 9000;
    EXPECT_GE(data_room_for(jumbo), 9000 + 14 + 4);
    PortSettings xdp = port(Profile::af_xdp, "x");
    xdp.mtu = 3000;
    EXPECT_GE(data_room_for(xdp), 3000 + 14 + 4 + 256);
}

TEST(MakeBufferPool, LastBufferFreedIsTheFirstTaken) {
    test::start_eal();
    auto pool = make_buffer_pool("lifo", 64, 2048, SOCKET_ID_ANY);
    ASSERT_TRUE(pool) << pool.error();
    EXPECT_EQ(rte_pktmbuf_priv_size(*pool), kBufferPrivateSize);
    EXPECT_EQ(rte_pktmbuf_data_room_size(*pool), 2048 + RTE_PKTMBUF_HEADROOM);
    EXPECT_STREQ(rte_mempool_get_ops((*pool)->ops_index)->name, "stack");

    // A pool of 64 has caches of 8: beyond them the order is that of the stack. Taking and giving back one at a time
    // touches one buffer.
    std::set<rte_mbuf*> touched;
    for (int i = 0; i < 100; ++i) {
        rte_mbuf* buffer = rte_pktmbuf_alloc(*pool);
        ASSERT_NE(buffer, nullptr);
        touched.insert(buffer);
        rte_pktmbuf_free(buffer);
    }
    EXPECT_EQ(touched.size(), 1u);
    void* first[32];
    void* again[32];
    ASSERT_EQ(rte_mempool_generic_get(*pool, first, 32, nullptr), 0);
    rte_mempool_generic_put(*pool, first, 32, nullptr);
    ASSERT_EQ(rte_mempool_generic_get(*pool, again, 32, nullptr), 0);
    EXPECT_EQ((std::set<void*>(first, first + 32)), (std::set<void*>(again, again + 32)));
    rte_mempool_generic_put(*pool, again, 32, nullptr);
    EXPECT_EQ(rte_mempool_avail_count(*pool), 64u);
    free_buffer_pool(*pool);
}

TEST(MakeBufferPool, MoreThanMemoryHas_SaysHowMuchItNeeds) {
    test::start_eal();
    const auto pool = make_buffer_pool("huge", 10'000'000, 2048, SOCKET_ID_ANY);
    ASSERT_FALSE(pool);
    EXPECT_THAT(pool.error(),
                testing::AllOf(testing::HasSubstr("buffer pool huge of 10000000"), testing::HasSubstr("hugepages"),
                               testing::ContainsRegex("about 2[0-9]{4} MB")));
}

TEST(BufferPool, FreeRestoresTheCount) {
    test::BufferPool pool(63);
    rte_mbuf* first = rte_pktmbuf_alloc(pool.get());
    ASSERT_NE(first, nullptr);
    EXPECT_EQ(pool.in_use(), 1u);
    rte_pktmbuf_free(first);
    EXPECT_EQ(pool.in_use(), 0u);
}

}  // namespace
}  // namespace sallyport::drivers
