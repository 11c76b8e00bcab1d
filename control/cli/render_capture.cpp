#include "control/cli/render_capture.h"

#include <algorithm>

#include "control/cli/render.h"
#include "crypto/format.h"

namespace sallyport::cli {

using namespace sallyport::management;

namespace {

void field(std::string& text, std::string_view name, std::string_view value) {
    if (!value.empty()) text += sallyport::format("{:<10}{}\n", name, printable(value));
}

std::string end_text(const CaptureView& capture) {
    if (capture.state == "running") return "running";
    if (capture.end == "stopped") return "stopped";
    if (capture.end == "packets" || capture.end == "octets" || capture.end == "time") return "ended: limit of " + capture.end;
    if (capture.end == "write_failed") return "ended: " + capture.error;
    if (capture.end == "forbidden") return "ended: the configuration allows no TLS secrets any more";
    if (capture.end == "control_lost") return "ended: sallyport-control went away";
    if (capture.end == "dataplane_lost") return "ended: the dataplane went away";
    return capture.state;
}

std::string whose(const CaptureView& capture) {
    if (!capture.secrets) return {};
    std::string text = sallyport::format("{} lines of TLS secrets", capture.secrets_lines);
    if (!capture.secrets_service.empty()) text += " of service " + capture.secrets_service;
    if (!capture.secrets_server_name.empty()) text += " under " + capture.secrets_server_name;
    if (!capture.secrets_client.empty()) text += " of clients in " + capture.secrets_client;
    if (capture.secrets_dropped > 0) text += sallyport::format("; {} found no room", capture.secrets_dropped);
    return text;
}

}  // namespace

std::string render_text(const CaptureView& capture) {
    std::string text;
    field(text, "capture", std::to_string(capture.id));
    field(text, "file", capture.file);
    field(text, "state", end_text(capture));
    field(text, "from", capture.started);
    field(text, "to", capture.ended);
    field(text, "port", capture.port);
    field(text, "flow", capture.flow);
    field(text, "filter", capture.filter);
    field(text, "comment", capture.comment);
    field(text, "limits", sallyport::format("{}, {} packets, {} s", octets(capture.limit_octets), quantity(capture.limit_packets), capture.limit_seconds));
    field(text, "packets", sallyport::format("{} written, {} dropped, {} matched", capture.packets, capture.dropped, capture.seen));
    field(text, "octets", octets(capture.octets));
    field(text, "secrets", whose(capture));
    return text;
}

std::string render_text(const CapturesView& captures) {
    std::string text;
    for (const CaptureView& capture : captures.captures) text += render_text(capture) + "\n";
    std::size_t width = 4;
    for (const CaptureFileView& file : captures.files) width = std::max(width, file.file.size());
    if (!captures.files.empty()) {
        text += sallyport::format("{:<{}}  {:>9}  {:<20}\n", "file", width, "size", "modified");
        for (const CaptureFileView& file : captures.files)
            text += sallyport::format("{:<{}}  {:>9}  {:<20}{}\n", printable(file.file), width, octets(file.octets), file.modified, file.secrets ? "  TLS secrets" : "");
    }
    text += sallyport::format("{} of {} taken in {}; TLS secrets are {}allowed\n", octets(captures.octets), octets(captures.max_octets), printable(captures.directory),
                              captures.secrets_allowed ? "" : "not ");
    return text;
}

}  // namespace sallyport::cli
