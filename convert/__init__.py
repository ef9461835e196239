"""Hub weights to MLX weights: planned from headers, streamed, resumable, checked.

survey (headers -> Plan) -> stream (Plan -> tensors) -> output (a whole folder) ->
check and card (what it cost).
"""
