//! throwaway
use std::time::Instant;
use qapipe_stages::*;
fn main() {
    let sh = std::path::Path::new("/work/shared");
    let q = squad_json::read(&sh.join("data/squad/dev-v2.0.json.gz")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let p = dir.path().join("train.arrow");
    examples::write(&p, &q.rows).unwrap();
    let ex = examples::Examples::open(&p).unwrap();
    let r = tokenizer::Reader::open(&sh.join("models/minilm-l6")).unwrap();
    let cpu = || { let s = std::fs::read_to_string("/proc/self/stat").unwrap(); let v: Vec<&str> = s.rsplit(')').next().unwrap().split_whitespace().collect(); (v[11].parse::<f64>().unwrap() + v[12].parse::<f64>().unwrap()) / 100.0 };
    let (t, c) = (Instant::now(), cpu());
    let (w, _) = windows::cut(&r, &ex, windows::Shape { max_length: 384, stride: 128, max_query_length: None }, &|_, _| Ok(())).unwrap();
    println!("cut {:.2} wall {:.2} cpu {} windows", t.elapsed().as_secs_f64(), cpu() - c, w.example.len());
    let c = cpu();
    for i in 0..ex.contexts() { r.tokens(ex.context_text(i)).unwrap(); }
    println!("contexts {:.2} cpu", cpu() - c);
    let c = cpu();
    for i in 0..ex.len() { r.ids(ex.question(i)).unwrap(); }
    println!("questions {:.2} cpu", cpu() - c);
}
