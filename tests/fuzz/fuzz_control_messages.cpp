// Whatever the dataplane's end of a lane says, in any order, of any length: control keeps its bounds, its counts come back to nought when the
// dataplane goes, and it tells no flow that it was not told of. Each message of the input: type, flow, length, then its octets.
#include <cstdint>
#include <set>

#include "tests/fuzz/input.h"
#include "tests/unit/control/flows/dataplane.h"

namespace {

using namespace sallyport;

struct World {
    std::shared_ptr<flows::Runtime> runtime = test::small_runtime();
    test::Dataplane dataplane{runtime};
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static World world;
    constexpr int kMostMessages = 64;
    constexpr channel::MessageType kTypes[] = {
        channel::MessageType::flow_opened,  channel::MessageType::stream_octets, channel::MessageType::backend_opened,
        channel::MessageType::backend_failed, channel::MessageType::leg_closed,  channel::MessageType::flow_ended,
        channel::MessageType::ticket_record, channel::MessageType::tickets_over, channel::MessageType::probe_opened,
        channel::MessageType::send_octets};
    Input input(data, size);
    std::set<std::uint64_t> told;
    const auto check = [&] {
        for (const auto& seen : world.dataplane.settle()) SALLYPORT_CHECK(told.contains(seen.flow.value));
    };
    for (int i = 0; i < kMostMessages && !input.empty(); ++i) {
        const std::uint8_t kind = input.octet();
        const auto flow = channel::FlowId::make(0, 1, input.octet() % 4);
        told.insert(flow.value);
        if (kind >= 0xf0) {   // well formed, so that the rest finds flows
            world.dataplane.open(flow, kind % 3);
        } else if (kind >= 0xe0) {
            const auto octets = input.octets(input.octet());
            world.dataplane.tell(channel::MessageType::stream_octets, flow,
                                 channel::StreamOctets{static_cast<channel::Leg>(kind & 1), 1, std::uint64_t{kind & 2u}}, octets);
        } else {
            world.dataplane.tell_raw(kTypes[kind % std::size(kTypes)], flow, input.octets(input.octet()));
        }
        if (i % 8 == 7) check();
    }
    check();
    world.dataplane.worker.recheck(world.runtime);
    world.dataplane.worker.detach();
    SALLYPORT_CHECK(world.dataplane.worker.load().sessions == 0 && world.dataplane.worker.load().redirects == 0);
    SALLYPORT_CHECK(world.runtime->services[0]->state.flows_now == 0 && world.runtime->redirects[0]->flows_now == 0);
    SALLYPORT_CHECK(world.runtime->pools[0]->member(0).flows_now == 0 && world.runtime->brake->started() == 0);
    world.dataplane.attach();
    return 0;
}
