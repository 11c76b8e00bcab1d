#include "drivers/port_profile.h"

#include <gtest/gtest.h>

namespace sallyport::drivers {
namespace {

PortSettings port(Profile profile, const std::string& device) {
    PortSettings settings;
    settings.name = "lan-1";
    settings.profile = profile;
    settings.device = device;
    return settings;
}

TEST(DeviceArguments, EachProfile) {
    EXPECT_EQ(device_arguments(port(Profile::pci, "0000:3b:00.0"), 4, true), "0000:3b:00.0");
    EXPECT_EQ(device_arguments(port(Profile::af_xdp, "eth1"), 2, true),
              "net_af_xdp_lan_1,iface=eth1,start_queue=0,queue_count=2");
    EXPECT_EQ(device_arguments(port(Profile::af_xdp, "eth1"), 1, false),
              "net_af_xdp_lan_1,iface=eth1,start_queue=0,queue_count=1,force_copy=1,busy_budget=0");
    EXPECT_EQ(device_arguments(port(Profile::af_packet, "eth1"), 2, false),
              "net_null_lan_1");
    EXPECT_EQ(device_arguments(port(Profile::tap, "tap0"), 1, false), "net_tap_lan_1,iface=tap0");
    PortSettings memif = port(Profile::memif, "/run/a.sock");
    EXPECT_EQ(device_arguments(memif, 1, false),
              "net_memif_lan_1,role=client,id=0,socket=/run/a.sock,socket-abstract=no,bsize=2048,rsize=10");
    memif.memif_server = true;
    memif.mac = "02:00:00:00:00:01";
    memif.mtu = 9000;
    memif.descriptors = 2048;
    EXPECT_EQ(device_arguments(memif, 1, false),
              "net_memif_lan_1,role=server,id=0,socket=/run/"
              "a.sock,socket-abstract=no,bsize=9024,rsize=11,mac=02:00:00:00:00:01");
    PortSettings virtio = port(Profile::virtio_user, "/run/a.sock");
    EXPECT_EQ(device_arguments(virtio, 2, false), "net_virtio_user_lan_1,path=/run/a.sock,server=1,queues=2,queue_size=256,mrg_rxbuf=1,in_order=1");
    virtio.mac = "02:00:00:00:00:01";
    virtio.descriptors = 1024;
    EXPECT_EQ(device_arguments(virtio, 1, false),
              "net_virtio_user_lan_1,path=/run/a.sock,server=1,queues=1,queue_size=1024,mrg_rxbuf=1,in_order=1,mac=02:00:00:00:00:01");
    EXPECT_EQ(device_arguments(port(Profile::vhost_user, "/run/a.sock"), 2, false), "net_vhost_lan_1,iface=/run/a.sock,client=1,queues=2,tso=1");
}

TEST(RingBuffers, AreTheProfilesOrTheSettings) {
    EXPECT_EQ(ring_buffers(port(Profile::af_xdp, "x")), 2048);
    PortSettings few = port(Profile::af_xdp, "x");
    few.descriptors = 512;
    EXPECT_EQ(ring_buffers(few), 2048);
    few.profile = Profile::memif;
    EXPECT_EQ(ring_buffers(few), 512);
    EXPECT_EQ(ring_buffers(port(Profile::af_packet, "x")), 32 * 33) << "frames of 64 KB in buffers of 2 KB";
}

}  // namespace
}  // namespace sallyport::drivers
