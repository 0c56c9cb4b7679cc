"""What a checkpoint's weights look like, what 4-bit quantization does to them, and what training changed in code space.

    tensors    names, types and places of tensors, from the safetensors headers; blocks of rows, read without a model
    select     which tensors are measured: 2-D weights, without embeddings and copies of them
    moments    exact distribution statistics of one tensor in one pass (three for fp32)
    channels   maxima of output channels
    quantizers the symmetric proxy, and which other quantizers need nothing but the weights
    levels     NF4 and FP4
    rowwise    INT8 and FP8
    update     what training changed: norm, share of changed weights, flipped codes
    control    random noise as large as what training changed
    measure    one row per tensor
    summary    the numbers of a whole checkpoint
    outputs    activations, and what quantization or training does to hidden states and logits
    stored     quantized checkpoints as they lie on the disk (stored_bitsandbytes, stored_compressed, stored_awq)
    rescaled   channel scales that AWQ folded into the layer before, found again
    evaluated  errors and flipped codes of the stored checkpoints (stored_record: into a record)
    sft        the supervised control: a fine-tune of the same step size
    variants   which checkpoints are diagnosed
    memory     peak memory of a part of the work
    pairing    refusing to pair a diagnosis with the evaluation of another checkpoint

Importing this package imports the standard library only.
"""
