# What the scripts share that make data and models in steps; they source it after setting OUT, the folder of what is made.

once() {  # once NAME COMMAND...: runs the command unless it has succeeded before, and says how long it took
    local name=$1 began=$SECONDS
    shift
    if [ -e "$OUT/$name.done" ]; then
        echo "$name: done already"
        return
    fi
    "$@"
    echo "$name: $((SECONDS - began)) s" | tee "$OUT/$name.done"
}
