# Profile of llama.cpp. A study without the section `llamacpp` asks for neither rule.
from gainwatt.llamacpp import targets as llamacpp_targets
from gainwatt.study import is_hub

# What comes from the hub is the login node's work, as for the other rules that bring something.
if STUDY.llamacpp is not None and is_hub(STUDY.llamacpp.source):

    localrules:
        fetch_gguf,


# The GGUF file of every quantization type: downloaded, found, or made by llama.cpp.
rule fetch_gguf:
    input:
        checkpoint=llamacpp_targets.base_manifest(STUDY, LAYOUT),
        sources=llamacpp_targets.local_files(STUDY),
    output:
        files=LAYOUT.gguf / "files.json",
        record=LAYOUT.record("fetch_gguf", "files"),
    log:
        LAYOUT.log("fetch_gguf", "files"),
    benchmark:
        LAYOUT.benchmark("fetch_gguf", "files")
    conda:
        "../../envs/llamacpp.yaml"
    threads: workflow_help.needs(STUDY, "llamacpp").threads
    resources:
        gpu=0,
        mem_mb=workflow_help.growing(workflow_help.needs(STUDY, "llamacpp").mem_mb),
        runtime=workflow_help.growing(
            workflow_help.needs(STUDY, "llamacpp").runtime_min
        ),
    params:
        python=workflow_help.interpreter(STUDY, "llamacpp"),
        environment=workflow_help.environment_of(STUDY, "llamacpp"),
        script=SCRIPTS / "fetch_gguf.py",
        settings=STUDY.settings_sha256("fetch_gguf"),
    shell:
        workflow_help.with_interpreter(
            "{params.python} {params.script} "
            "--out {output.files} --record {output.record} "
            "> {log} 2>&1"
        )


# Every arm in one session, so that their order can be interleaved; one record per arm. Finished visits outlive a kill
# in the scratch folder.
rule profile_llamacpp:
    input:
        files=LAYOUT.gguf / "files.json",
        prompts=llamacpp_targets.suite_files(STUDY),
    output:
        session=report(
            LAYOUT.record("profile_llamacpp", "session"),
            caption="../report/llamacpp.rst",
            category="Profiles",
        ),
        arms=llamacpp_targets.arm_records(STUDY, LAYOUT),
    log:
        LAYOUT.log("profile_llamacpp", "session"),
    benchmark:
        LAYOUT.benchmark("profile_llamacpp", "session")
    conda:
        "../../envs/llamacpp.yaml"
    threads: workflow_help.needs(STUDY, "llamacpp").threads
    resources:
        gpu=workflow_help.needs(STUDY, "llamacpp").gpus,
        mem_mb=workflow_help.growing(workflow_help.needs(STUDY, "llamacpp").mem_mb),
        runtime=workflow_help.growing(
            workflow_help.needs(STUDY, "llamacpp").runtime_min
        ),
    params:
        python=workflow_help.leased(STUDY, "llamacpp"),
        environment=workflow_help.environment_of(STUDY, "llamacpp"),
        script=SCRIPTS / "profile_llamacpp.py",
        settings=STUDY.settings_sha256("profile_llamacpp"),
    shell:
        workflow_help.with_interpreter(
            "{params.python} {params.script} "
            "--files {input.files} --record {output.session} "
            "> {log} 2>&1"
        )
