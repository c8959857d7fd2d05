"""Which rank of which launch a process is, by the variables of the usual launchers."""

import pytest
from stepwatt.launcher import group, place

TORCHRUN = {
    "RANK": "5", "WORLD_SIZE": "16", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "8", "TORCHELASTIC_RUN_ID": "job/7",
    "MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "29500", "TORCHELASTIC_RESTART_COUNT": "0",
}  # fmt: skip
SLURM = {"SLURM_PROCID": "3", "SLURM_NTASKS": "8", "SLURM_JOB_ID": "4711", "SLURM_STEP_ID": "0"}
OPEN_MPI = {
    "OMPI_COMM_WORLD_RANK": "2",
    "OMPI_COMM_WORLD_SIZE": "4",
    "PMIX_NAMESPACE": "prterun-node-1@1",
    "PMIX_RANK": "2",
}
MPICH = {"PMI_RANK": "1", "PMI_SIZE": "2"}


@pytest.mark.parametrize(
    ("env", "rank", "world_size", "launch"),
    [
        pytest.param(TORCHRUN, 5, 16, "job-7", id="torchrun"),
        pytest.param(TORCHRUN | {"TORCHELASTIC_RESTART_COUNT": "2"}, 5, 16, "job-7", id="torchrun after restarts"),
        pytest.param(SLURM, 3, 8, "4711-0", id="Slurm"),
        pytest.param(SLURM | {"RANK": "4", "WORLD_SIZE": "8"}, 4, 8, "4711-0", id="torch's variables within Slurm"),
        pytest.param(OPEN_MPI, 2, 4, "prterun-node-1-1", id="Open MPI"),
        pytest.param(TORCHRUN | {"STEPWATT_LAUNCH": "mine"}, 5, 16, "mine", id="named by the user"),
        pytest.param(TORCHRUN | {"TORCHELASTIC_RUN_ID": "none"}, 5, 16, "10.0.0.1-29500", id="several hosts, no name"),
    ],
)
def test_the_launchers_variables_say_who_it_is(env, rank, world_size, launch):
    assert place(env)[:3] == (rank, world_size, launch)


def test_a_restart_is_the_same_launch_and_counted():
    assert place(TORCHRUN | {"TORCHELASTIC_RESTART_COUNT": "2"}).restart == 2
    assert place(SLURM | {"SLURM_RESTART_COUNT": "1"})[2:] == ("4711-0", 1)


def test_one_process_of_a_slurm_step_goes_on_under_its_name_and_one_of_a_script_does_not():
    alone = {"SLURM_PROCID": "0", "SLURM_NTASKS": "1", "SLURM_JOB_ID": "4711"}

    assert place(alone | {"SLURM_STEP_ID": "2"}).launch == "4711-2"
    assert "4711" not in place(alone).launch  # others of the script may run beside it under the same name


def test_the_account_is_slurms_where_nobody_says_otherwise():
    assert group({"SLURM_JOB_ACCOUNT": "nlp"}) == "nlp"
    assert group({"SLURM_JOB_ACCOUNT": "nlp", "STEPWATT_GROUP": "vision"}) == "vision"
    assert group({}) == ""


def test_mpich_names_no_launch_but_its_ranks_of_one_host_share_one():
    one_host = MPICH | {"MPI_LOCALNRANKS": "2"}

    assert place(one_host)[:2] == (1, 2)
    assert place(one_host).launch == place(one_host | {"PMI_RANK": "0"}).launch != ""


def test_a_process_of_its_own_is_a_launch_of_its_own():
    first, second = place({}), place({})

    assert first[:2] == (0, 1)
    assert first.launch != second.launch


def test_ranks_of_one_host_share_what_their_starter_is():
    """torchrun gives runs without an id the name "none", each time."""
    one_host = TORCHRUN | {"TORCHELASTIC_RUN_ID": "none", "LOCAL_WORLD_SIZE": "16"}

    assert place(one_host).launch == place(one_host | {"RANK": "6"}).launch
    assert "none" not in place(one_host).launch


@pytest.mark.parametrize("env", [{"RANK": "x"}, {"RANK": ""}, {"RANK": "-1", "WORLD_SIZE": "0"}])
def test_variables_that_make_no_sense_are_passed_over(env):
    assert place(env)[:2] == (0, 1)
