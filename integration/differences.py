"""Scenarios that other runtimes are known to fail, with the reason. pyocirun never stands here."""

from __future__ import annotations

WORDS = "crun words these errors in its own way"
_EXEC = "test_message_and_code_of_an_exec_that_cannot_run"

KNOWN_DIFFERENCES: dict[tuple[str, str], str] = {
    ("test_the_root_is_read_only_and_paths_are_masked_as_before", "runc"): "runc leaves a restored root writable",
    ("test_the_status_descriptor_tells_when_memory_can_be_fetched", "runc"): "runc 1.1 writes nothing with criu 4",
    ("test_modes_of_managing_cgroups[ignore]", "runc"): "runc 1.1 does not know it",
    ("test_a_file_that_has_lost_the_name_it_was_opened_by", "runc"): "runc 1.1 has no --link-remap",
    ("test_a_user_namespace_comes_back", "runc"): "runc makes the directory for root alone, and criu looks from inside",
    ("test_what_is_mounted_below_the_source_comes_back", "runc"): "runc tells criu of the mount at the top alone",
    ("test_start_does_not_wait_for_a_container_that_ends", "runc"): "runc 1.1 waits for it all the same",
    ("test_what_else_the_container_says_is_not_handed_on", "runc"): "runc 1.1 wants READY=1 in the first line",
    ("test_the_mount_is_private_and_read_only", "runc"): "runc 1.1 waits for a container that has ended",
    (
        "test_the_root_directory_may_not_be_the_root_of_the_host",
        "runc",
    ): "runc 1.1 takes / and reads every directory there",
    ("test_an_explicit_root_that_is_missing_is_an_error", "runc"): "runc 1.1 lists nothing",
    ("test_delete_force_clears_a_state_that_cannot_be_read", "runc"): "runc fails to load the state and stops there",
    ("test_exec_refuses_the_cgroup_of_a_neighbour_with_the_same_prefix", "runc"): "runc before 1.5.2 compares strings",
    ("test_a_mapping_without_a_user_namespace_is_refused", "runc"): "runc 1.1 ignores the mapping",
    ("test_a_user_namespace_is_joined_by_path[False]", "runc"): "runc 1.1 wants a mapping besides the path",
    ("test_a_user_that_is_not_mapped_is_refused", "runc"): "runc 1.1 says only: invalid argument",
    ("test_without_the_object_root_keeps_those_of_the_runtime", "runc"): "runc 1.1 drops all, later ones keep them",
    (
        "test_a_bind_mount_of_the_own_root_has_what_was_mounted_there_before[True]",
        "runc",
    ): "runc 1.1 opens all sources before it mounts anything",
    ("test_a_link_of_the_image_leads_no_mount_into_proc[tmpfs]", "runc"): "runc 1.1 mounts it over the attributes",
    (
        "test_a_value_that_the_kernel_takes_in_part_is_an_error[kernel.shmmax-123 456]",
        "runc",
    ): "runc drops the rest in silence",
    (
        "test_a_value_that_the_kernel_takes_in_part_is_an_error[kernel.sem-250 32000 32 128 5]",
        "runc",
    ): "runc drops the rest in silence",
    ("test_a_destination_may_begin_with_the_rootfs[tmpfs]", "runc"): "runc 1.1 looks for it below itself",
    ("test_a_destination_may_begin_with_the_rootfs[bind]", "runc"): "runc 1.1 looks for it below itself",
    ("test_an_ambient_capability_that_cannot_be_raised_is_a_warning", "runc"): "runc 1.1 says nothing of it",
    ("test_a_path_that_stands_twice_is_covered_once[maskedPaths]", "runc"): "runc 1.1 covers it twice",
    ("test_a_path_that_stands_twice_is_covered_once[readonlyPaths]", "runc"): "runc covers it twice",
    (
        "test_a_limit_that_stands_twice_is_refused",
        "runc",
    ): "runc lets the last one win; the specification wants an error",
    ("test_what_takes_a_cgroup_says_that_there_is_none[events --stats]", "runc"): "runc prints zeros",
    ("test_domainname", "runc"): "runc 1.1 does not know domainname",
    ("test_a_name_needs_a_uts_namespace[domainname]", "runc"): "runc 1.1 does not know domainname",
    ("test_a_bind_mount_keeps_the_restrictions_of_its_source_in_a_user_namespace", "runc"): (
        "runc 1.1 asks for fewer restrictions than the source has, which the kernel refuses"
    ),
    ("test_a_bind_mount_takes_no_options_of_a_filesystem", "runc"): "runc 1.1 ignores them",
    ("test_rootfs_propagation[shared-shared:]", "runc"): "runc 1.1 makes the root private after all",
    ("test_rootfs_propagation[rshared-shared:]", "runc"): "runc 1.1 makes the root private after all",
    ("test_rootfs_propagation_unbindable", "runc"): "runc 1.1 then fails to bind the rootfs on itself",
    ("test_without_a_mount_namespace_the_root_is_changed_all_the_same", "runc"): (
        "runc before 1.5.3 leaves a bind mount, and changes the propagation of the host's mounts"
    ),
    ("test_a_bad_device_is_refused[device0]", "runc"): "runc takes a relative path from the root",
    (
        "test_an_existing_file_in_the_place_of_a_device_is_refused",
        "runc",
    ): "runc 1.1 takes any existing file for the device",
    ("test_hooks_run_in_their_order", "runc"): "runc runs poststart hooks at create, the specification at start",
    ("test_the_state_is_given_on_stdin[poststart-statuses4]", "runc"): "runc runs poststart hooks at create",
    ("test_a_failed_poststart_hook_stops_the_container", "runc"): "runc runs poststart hooks at create",
    ("test_a_hook_without_an_environment_has_none", "runc"): "runc gives a hook its own environment",
    ("test_every_poststop_hook_runs_whatever_the_others_do", "runc"): "runc stops at the first that fails",
    ("test_the_timeout_ends_what_the_hook_started_too", "runc"): "runc kills the hook alone and waits for its pipes",
    ("test_hooks_get_no_descriptors_but_three", "runc"): "runc 1.1 passes its own to createContainer hooks",
    ("test_a_waiting_init_cannot_be_traced", "runc"): "runc makes init dumpable again before it waits for start",
    ("test_a_linked_dev_makes_nothing_on_the_host", "runc"): "CVE-2026-41579, fixed in runc 1.3.6",
    (
        "test_a_linked_dev_under_the_default_mounts_makes_nothing_on_the_host",
        "runc",
    ): "CVE-2026-41579, fixed in runc 1.3.6",
    ("test_a_passwd_that_is_a_pipe_stops_nobody", "runc"): "runc 1.1 waits for a writer for ever",
    ("test_a_config_that_is_no_json_object[null]", "runc"): "runc 1.1 panics",
    ("test_a_bad_version", "runc"): "runc never looks at ociVersion; the specification requires it",
    ("test_a_nul_in_an_argument", "runc"): "runc 1.1 finds it out at start",
    ("test_an_existing_node_of_another_kind_is_refused", "runc"): "runc 1.1 takes any existing file for the device",
    ("test_users_and_groups_of_a_range", "runc"): "runc 1.1 takes no additional groups without root, ranges or not",
    ("test_the_root_of_a_user_namespace_starts_containers", "runc"): "runc 1.1 asks for setgroups where that is denied",
    (
        "test_a_network_namespace_of_a_surrounding_user_namespace_is_joined",
        "runc",
    ): "runc 1.1 asks for setgroups where that is denied",
    ("test_a_program_that_cannot_be_executed_behind_the_filter_is_told", "runc"): "runc 1.1 says so on stderr alone",
    ("test_a_killed_runtime_leaves_nothing_that_delete_cannot_remove", "runc"): (
        "runc makes cgroups before it saves the state that names them: delete --force leaves them"
    ),
    ("test_it_is_for_tmpfs_alone", "runc"): "runc 1.1 ignores it",
    ("test_an_option_of_a_file_system[defaults]", "runc"): "runc 1.1 hands it to the file system",
    (
        "test_a_recursive_option_clears[ratime]",
        "runc",
    ): "runc 1.1 asks for one bit of a field that the kernel takes whole",
    ("test_in_a_user_namespace_nothing_that_the_host_forbids_is_allowed", "runc"): "runc 1.1 says: invalid argument",
    ("test_a_cgroup_with_processes_is_refused[v1]", "runc"): "runc 1.1 only warns of it",
    ("test_a_cgroup_with_processes_is_refused[v2]", "runc"): "runc 1.1 only warns of it",
    **{
        (f"test_the_keys_are_the_ones_that_callers_know[{mode}]", "runc"): "runc 1.1 reads no cpuset of cgroup v2"
        for mode in ("v2", "systemd", "user")
    },
    ("test_a_limit_reaches_the_kernel[v2-shares]", "runc"): "runc 1.1 makes another weight, 39, of 1024 shares",
    ("test_a_limit_reaches_the_kernel[v2-shares]", "crun"): "crun 1.21 makes another weight, 39, of 1024 shares",
    ("test_a_limit_reaches_the_kernel[systemd-shares]", "runc"): "runc 1.1 makes another weight, 39, of 1024 shares",
    ("test_a_limit_reaches_the_kernel[user-shares]", "runc"): "runc 1.1 makes another weight, 39, of 1024 shares",
    ("test_sigkill_without_a_pid_namespace_leaves_no_survivor", "runc"): "runc 1.1 kills init alone",
    ("test_root_of_a_user_namespace_may_use_its_own_cgroup", "runc"): "runc 1.1 leaves the cgroup to the host's root",
    ("test_a_procfs_that_is_covered_leads_exec_to_no_other_file", "runc"): "runc 1.1 looks for /proc/self/fd there",
    (
        "test_console_and_ptmx_of_the_container_are_not_used_for_a_terminal_of_exec",
        "runc",
    ): "runc 1.1 needs a terminal of the caller for exec --tty",
    (
        "test_the_scope_has_a_cgroup_in_every_hierarchy",
        "runc",
    ): "runc 1.1 leaves the process in the devices cgroup of the slice, with systemd 252",
    ("test_each_option_of_update_reaches_unit_and_file[--cpu-burst 5000]", "runc"): "runc 1.1 has no such option",
    ("test_each_option_of_update_reaches_unit_and_file[--cpu-idle 1]", "runc"): "runc 1.1 has no such option",
    ("test_a_slice_can_be_the_unit", "runc"): "runc 1.1 asks systemd to put a process into it, which no slice takes",
    (
        "test_a_users_unit_is_updated_executed_in_and_deleted[outside]",
        "runc",
    ): "runc 1.1 leaves the process where its caller is, as it may not move it",
    ("test_the_callers_signal_mask_is_not_the_containers", "runc"): "runc 1.1 hands it on",
    ("test_the_callers_signal_mask_is_not_that_of_an_exec", "runc"): "runc 1.1 hands it on",
    ("test_figures_are_those_that_the_runtime_tells", "crun"): "crun has no events",
    ("test_message_and_code_of_a_command_that_cannot_run", "crun"): WORDS,
    **{
        (f"{_EXEC}[{engine}]", "crun"): WORDS
        for engine in ("docker", "docker, remapped", "docker by API", "ctr", "CRI")
    },
    # podman has words of its own for what may not be executed.
    **{
        (f"{_EXEC}[{engine}-{rest}]", "crun"): WORDS
        for engine in ("podman", "podman, rootless", "podman by API")
        for rest in ("/nope-no such file or directory-127", "nope-executable file not found in $PATH-127")
    },
    ("test_a_pod_with_a_user_namespace[newer]", "runc"): "features of runc 1.1 say nothing of idmap mounts",
    ("test_exec_tells_what_is_wrong_with_a_cgroup[user-missing]", "runc"): "runc 1.1 goes on without it for a user",
    ("test_the_table_is_that_of_the_hosts_ps", "crun"): "crun prints a list of its own, of process ids alone",
    ("test_ps_gets_the_options_behind_the_id", "crun"): "crun's ps takes none",
    ("test_a_table_without_process_ids_is_refused", "crun"): "crun's ps takes no options for ps",
    ("test_an_unknown_format_is_refused", "crun"): "crun tells it on standard error, and not in the log",
    ("test_a_stopped_container_has_no_processes", "crun"): "crun's list is [] then, and not null",
    ("test_an_unknown_container_has_none_either", "crun"): "crun says which file it cannot open",
    ("test_an_unknown_container_is_not_paused", "crun"): "crun says which file it cannot open",
    ("test_processes_in_cgroups_below_are_listed[v2]", "crun"): "crun lists those of the topmost alone",
    ("test_processes_in_cgroups_below_are_listed[systemd]", "crun"): "crun lists those of the topmost alone",
    (
        "test_a_created_container_is_paused_and_comes_back_as_created",
        "crun",
    ): "crun's state says created of one that is frozen",
    ("test_only_a_paused_container_is_resumed", "crun"): "crun resumes one that runs, without an error",
    ("test_a_stopped_container_is_not_paused", "crun"): "crun has other words: is not running",
    ("test_exec_in_a_paused_container_is_refused", "crun"): "crun has other words, and status 1",
    ("test_exec_may_be_told_to_wait_for_the_resume", "crun"): "crun has no --ignore-paused",
    ("test_delete_refuses_a_paused_container", "crun"): "crun has other words: is not in `created` or `stopped` state",
    ("test_delete_force_removes_a_paused_container", "crun"): "crun then has other words for a container that is gone",
    ("test_a_frozen_container_is_paused", "crun"): "crun has other words: is not in `created` or `stopped` state",
    ("test_exec_tells_what_is_wrong_with_a_cgroup", "crun"): "crun says which file it cannot open, with status 1",
    ("test_exec_refuses_the_cgroup_of_a_neighbour_with_the_same_prefix", "crun"): "crun goes there",
    ("test_a_container_is_alone_in_its_cgroup[systemd]", "crun"): "crun makes a cgroup `container` below the scope",
    ("test_a_container_is_alone_in_its_cgroup[user]", "crun"): "crun makes a cgroup `container` below the scope",
    ("test_a_cgroup_with_processes_is_refused[v1]", "crun"): "crun puts its process beside them",
    ("test_a_cgroup_with_processes_is_refused[v2]", "crun"): "crun puts its process beside them",
    ("test_each_flag_changes_its_file", "crun"): "crun takes no units: 64m is an error",
    ("test_what_is_not_named_stays", "crun"): "crun takes no units: 32m is an error",
    ("test_memory_and_swap_are_raised_and_lowered", "crun"): "crun takes no units: 128m is an error",
    ("test_no_limit_of_memory_is_none_of_swap_either", "crun"): "crun leaves the limit of swap",
    ("test_a_limit_reaches_the_kernel[systemd-shares]", "crun"): "crun 1.21 makes another weight, 39, of 1024 shares",
    ("test_a_limit_reaches_the_kernel[user-shares]", "crun"): "crun 1.21 makes another weight, 39, of 1024 shares",
    ("test_limits_and_usage_are_those_of_the_cgroup", "crun"): "crun has no command events",
    ("test_the_keys_are_the_ones_that_callers_know", "crun"): "crun has no command events",
    ("test_throttling_is_counted", "crun"): "crun has no command events",
    ("test_readings_come_at_the_interval_until_the_container_ends", "crun"): "crun has no command events",
    ("test_an_interval_of_nothing_is_refused", "crun"): "crun has no command events",
    ("test_a_stopped_container_has_no_events", "crun"): "crun has no command events",
    ("test_a_kill_for_lack_of_memory_is_told", "crun"): "crun has no command events",
    ("test_an_absolute_path_begins_at_the_root_and_leads_not_out[v1-/]", "crun"): "crun 1.8 leaves a cgroup",
    **{
        (f"test_an_absolute_path_begins_at_the_root_and_leads_not_out[{mode}-/../../../]", "crun"): (
            "crun follows it above the root"
        )
        for mode in ("v1", "v2")
    },
    ("test_a_frozen_cgroup_is_refused[v2]", "crun"): "crun puts its process there and waits for it",
    ("test_a_limit_that_is_refused_is_an_error_and_leaves_nothing[v1]", "crun"): "crun leaves the cgroup",
    ("test_a_limit_that_is_refused_is_an_error_and_leaves_nothing[v2]", "crun"): "crun leaves the cgroup",
    **{
        (f"test_quota_and_period_are_changed_one_without_the_other[{mode}]", "crun"): "crun writes both to one file"
        for mode in ("v2", "systemd", "user")
    },
    ("test_device_rules_are_left_alone", "crun"): "crun then allows what they deny",
    **{
        (f"test_a_file_that_makes_no_sense_changes_nothing[{mode}-{text}]", "crun"): "crun ignores what it cannot use"
        for mode in ("v1", "v2", "systemd", "user")
        for text in ("[]", '{"memory": {"limit": "64M"}}', '{"pids": 3}')
    },
    ("test_a_stopped_container_is_not_updated", "crun"): "crun updates it, or knows its unit no more",
    ("test_an_unknown_container_is_not_updated", "crun"): "crun says which file it cannot open",
    ("test_a_size_that_is_none_is_refused", "crun"): "crun has words of its own for what is no JSON then",
    ("test_intel_rdt_that_was_not_configured_is_refused", "crun"): "crun says which file it cannot open",
}
