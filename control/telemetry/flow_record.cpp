#include "control/telemetry/flow_record.h"

#include <nlohmann/json.hpp>

#include "control/policy/catalogue.h"
#include "crypto/format.h"

namespace sallyport::telemetry {

namespace {

using Json = nlohmann::ordered_json;

double seconds(std::chrono::nanoseconds duration) { return std::chrono::duration<double>(duration).count(); }

void put(Json& to, const char* name, const std::string& value) {
    if (!value.empty()) to[name] = value;
}

Json leg(const RecordedLeg& of) {
    Json json = Json::object();
    put(json, "address", of.peer);
    if (of.suite != 0) {
        const auto* const suite = policy::find_suite(of.suite);
        const auto* const group = policy::find_group(of.group);
        json["tls"] = of.version == policy::kTls13 ? "TLS 1.3" : "TLS 1.2";
        json["suite"] = suite == nullptr ? sallyport::format("{:#06x}", of.suite) : std::string(suite->name);
        if (of.group != 0) json["group"] = group == nullptr ? sallyport::format("{:#06x}", of.group) : std::string(group->name);
        json["resumed"] = of.resumed;
    } else if (of.plain) {
        json["tls"] = "none";
    }
    put(json, "alpn", of.alpn);
    put(json, "server_name", of.server_name);
    if (of.handshake >= std::chrono::nanoseconds(0)) json["handshake_s"] = seconds(of.handshake);
    json["octets_in"] = of.octets_in;
    json["octets_out"] = of.octets_out;
    return json;
}

}  // namespace

std::string iso8601_ms(std::chrono::system_clock::time_point time) {
    return sallyport::format("{:%FT%TZ}", std::chrono::floor<std::chrono::milliseconds>(time));
}

std::string to_json(const FlowRecord& record) {
    Json json;
    json["kind"] = record.kind;
    json["flow"] = record.id;
    put(json, "service", record.service);
    json["began"] = iso8601_ms(record.ended - std::chrono::duration_cast<std::chrono::system_clock::duration>(record.duration));
    json["ended"] = iso8601_ms(record.ended);
    json["duration_s"] = seconds(record.duration);
    put(json, "local", record.local);
    Json client = leg(record.client);
    put(client, "ech", record.ech);
    put(client, "identity", record.client_identity);
    json["client"] = std::move(client);
    if (!record.pool.empty()) {
        Json backend = leg(record.backend);
        put(backend, "pool", record.pool);
        put(backend, "member", record.member);
        put(backend, "anchor", record.anchor);
        if (record.attempts != 0) backend["attempts"] = record.attempts;
        json["backend"] = std::move(backend);
    }
    json["reason"] = record.reason;
    json["text"] = record.sentence;
    return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace sallyport::telemetry
