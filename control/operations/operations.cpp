#include "control/operations/operations.h"

#include "control/operations/subjects.h"

namespace sallyport {

void add_operations(management::CommandTable& table, Appearance& appearance) {
    using namespace operations;
    for (const auto add :
         {add_version_commands, add_dataplane_commands, add_service_commands, add_pool_commands, add_flow_commands, add_counter_commands, add_rate_commands,
          add_policy_commands, add_ech_commands, add_revocation_commands, add_failure_commands, add_certificate_commands, add_tls_commands,
          add_session_commands, add_log_commands, add_audit_commands, add_name_commands, add_drain_commands, add_reload_commands,
          add_service_test_commands, add_support_commands})
        add(table, appearance);
}

}  // namespace sallyport
