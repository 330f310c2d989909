"""Brings what a script of this folder needs into a folder, once."""
import fcntl, pathlib, shutil


def bring(home, wanted, install):
    """Has `install(folder)` fill a fresh folder, which then becomes `home`, unless what is there is what is `wanted` (a text). Tests start side by side: the
    first one installs. Gives whether it is there."""
    home.parent.mkdir(parents=True, exist_ok=True)
    with open(f"{home}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        note = home / "WANTED"
        if note.is_file() and note.read_text() == wanted:
            return True
        fresh = pathlib.Path(f"{home}.new")
        for folder in (fresh, home):
            shutil.rmtree(folder, ignore_errors=True)
        fresh.mkdir()
        if not install(fresh):
            return False
        (fresh / "WANTED").write_text(wanted)
        fresh.rename(home)
    return True
