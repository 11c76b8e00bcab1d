#pragma once

#include "control/operations/operations.h"

/// The commands, a file for each subject. add_operations() calls them all.
namespace sallyport::operations {

using management::CommandTable;

void add_version_commands(CommandTable& table, Appearance& appearance);
void add_dataplane_commands(CommandTable& table, Appearance& appearance);     ///< ports, workers, neighbours
void add_service_commands(CommandTable& table, Appearance& appearance);
void add_pool_commands(CommandTable& table, Appearance& appearance);
void add_flow_commands(CommandTable& table, Appearance& appearance);
void add_counter_commands(CommandTable& table, Appearance& appearance);
void add_rate_commands(CommandTable& table, Appearance& appearance);
void add_policy_commands(CommandTable& table, Appearance& appearance);
void add_ech_commands(CommandTable& table, Appearance& appearance);
void add_revocation_commands(CommandTable& table, Appearance& appearance);
void add_failure_commands(CommandTable& table, Appearance& appearance);
void add_certificate_commands(CommandTable& table, Appearance& appearance);
void add_tls_commands(CommandTable& table, Appearance& appearance);
void add_session_commands(CommandTable& table, Appearance& appearance);
void add_log_commands(CommandTable& table, Appearance& appearance);
void add_audit_commands(CommandTable& table, Appearance& appearance);
void add_name_commands(CommandTable& table, Appearance& appearance);
void add_drain_commands(CommandTable& table, Appearance& appearance);
void add_reload_commands(CommandTable& table, Appearance& appearance);
void add_service_test_commands(CommandTable& table, Appearance& appearance);
void add_support_commands(CommandTable& table, Appearance& appearance);

}  // namespace sallyport::operations
