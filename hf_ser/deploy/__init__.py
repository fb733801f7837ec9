"""Using a trained model: long recordings, very many files, ONNX, a server, a demo."""
